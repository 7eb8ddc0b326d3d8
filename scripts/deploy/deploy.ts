/** deploy-*, deploy-with-diffusers-*, undeploy and manifests: the chart, as one release or two. */
import { type Environment, RELEASE, ROOT, RUNTIME_NAMESPACE } from './environments.ts'
import { type Kube, runHelm } from './kube.ts'
import { waitForRollout } from './wait.ts'

/** KServe's, and the chart's own; one of them selects the runtime's pods. */
const KSERVE_PODS = (name: string) => `serving.kserve.io/inferenceservice=${name}`
const PLAIN_PODS = (name: string) => `diffusers-mcp/runtime=${name}`

export interface DeployOptions {
  /** Further arguments for helm: --values FILE, --set KEY=VALUE. */
  readonly helmArgs: readonly string[]
  readonly timeoutSeconds: number
}

/**
 * What `helm upgrade` or `helm template` takes for the server in front of a runtime of another release.
 * @param pods whether that runtime has a headless Service, by which the server finds each pod
 */
function serverArguments(
  environment: Environment,
  { helmArgs }: DeployOptions,
  { pods }: { readonly pods: boolean },
): string[] {
  return [
    ...[RELEASE, `${ROOT}chart`, '--namespace', environment.namespace, '--values', environment.values],
    ...['--set', 'runtime.mode=external', '--set', `runtime.namespace=${RUNTIME_NAMESPACE}`],
    ...(pods ? ['--set', 'runtime.discovery=dns'] : []),
    ...helmArgs,
  ]
}

function runtimeArguments(
  environment: Environment,
  mode: RuntimeMode,
  { helmArgs }: DeployOptions,
): string[] {
  return [
    ...[
      environment.runtime,
      `${ROOT}chart`,
      '--namespace',
      RUNTIME_NAMESPACE,
      '--values',
      environment.values,
    ],
    // What values-prod.yaml wants of the server is no matter of a runtime alone.
    ...['--set', 'server.enabled=false,server.autoscaling.enabled=false', '--set', `runtime.mode=${mode}`],
    ...['--set', `runtime.clientNamespaces={${environment.runtimeClients.join(',')}}`],
    // Where an autoscaler of the runtime reads how much waits.
    ...[
      '--set',
      `runtime.autoscaling.metricsUrl=http://${RELEASE}.${environment.namespace}.svc:9090/metrics`,
    ],
    ...helmArgs,
  ]
}

/** The server of an environment; its runtime must be there, or come within the init container's patience. */
export async function deployServer(
  kube: Kube,
  environment: Environment,
  options: DeployOptions & { readonly pods?: boolean },
): Promise<void> {
  makeNamespace(kube, environment.namespace)
  const pods = options.pods ?? hasPodsService(kube, environment)
  kube.helm(['upgrade', '--install', ...serverArguments(environment, options, { pods })])
  if (kube.dryRun) return
  await waitForRollout(kube, {
    namespace: environment.namespace,
    kind: 'deployment',
    name: RELEASE,
    selector: `app.kubernetes.io/instance=${RELEASE},app.kubernetes.io/component=server`,
    timeoutSeconds: options.timeoutSeconds,
    logOf: 'wait-for-runtime',
  })
  process.stdout.write(`Next: make test-integration ENV=${environment.name}\n`)
}

type RuntimeMode = 'kserve' | 'deployment'

/** The runtime first, with KServe where it runs and without it elsewhere, then the server. */
export async function deployBoth(
  kube: Kube,
  environment: Environment,
  options: DeployOptions & { readonly mode?: RuntimeMode },
): Promise<void> {
  const { runtime } = environment
  const mode = options.mode ?? (kserveRuns(kube) ? 'kserve' : 'deployment')
  process.stdout.write(
    `Runtime ${runtime} in ${RUNTIME_NAMESPACE} by ${mode === 'kserve' ? 'KServe' : 'a Deployment'}` +
      `${options.mode ? '' : ` (KServe's controller is ${mode === 'kserve' ? '' : 'not '}in this cluster; RUNTIME_MODE decides otherwise)`}\n`,
  )
  kube.helm(['upgrade', '--install', ...runtimeArguments(environment, mode, options)])
  if (!kube.dryRun)
    await waitForRollout(kube, {
      namespace: RUNTIME_NAMESPACE,
      kind: mode === 'kserve' ? 'inferenceservice' : 'deployment',
      name: runtime,
      selector: mode === 'kserve' ? KSERVE_PODS(runtime) : PLAIN_PODS(runtime),
      // Weights are downloaded and loaded: 5 to 10 minutes are usual.
      timeoutSeconds: Math.max(options.timeoutSeconds, 1800),
      logOf: mode === 'kserve' ? 'kserve-container' : 'runtime',
    })
  await deployServer(kube, environment, { ...options, pods: true })
}

/** Whether the runtime is of this chart. Who may not look gets one address for all pods, which always works. */
function hasPodsService(kube: Kube, { runtime }: Environment): boolean {
  try {
    return kube.get(['service', `${runtime}-pods`, '--namespace', RUNTIME_NAMESPACE]) !== undefined
  } catch (error) {
    process.stdout.write(
      `The server will use one address for all pods of the runtime. ${(error as Error).message}\n`,
    )
    return false
  }
}

/** Whether something makes pods of InferenceServices: the CRD alone does not. */
function kserveRuns(kube: Kube): boolean {
  const controllers = kube.get<{ items: object[] }>([
    ...['deployments', '--all-namespaces', '-l', 'control-plane=kserve-controller-manager'],
  ])
  return (controllers?.items.length ?? 0) > 0
}

/** With the Pod Security level that the chart's pods meet. */
function makeNamespace(kube: Kube, namespace: string): void {
  if (kube.get(['namespace', namespace])) return
  kube.change(['create', 'namespace', namespace])
  kube.change(['label', 'namespace', namespace, 'pod-security.kubernetes.io/enforce=restricted'])
}

/** Removes the server; with `runtime` also the runtime, which other environments may use. Namespaces stay. */
export function undeploy(kube: Kube, environment: Environment, { runtime }: { runtime: boolean }): void {
  const releases = [
    [RELEASE, environment.namespace] as const,
    ...(runtime ? [[environment.runtime, RUNTIME_NAMESPACE] as const] : []),
  ]
  for (const [release, namespace] of releases)
    kube.helm(['uninstall', release, '--namespace', namespace, '--ignore-not-found', '--wait'])
}

/** What deployServer and deployBoth would apply, on standard output. */
export function manifests(environment: Environment, options: DeployOptions): void {
  process.stdout.write(runHelm(['template', ...runtimeArguments(environment, 'kserve', options)]))
  process.stdout.write(runHelm(['template', ...serverArguments(environment, options, { pods: true })]))
}
