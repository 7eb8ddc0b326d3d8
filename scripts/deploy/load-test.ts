/** `make load-test`: a load test from within the cluster, as a Job of k6 beside the server. */
import { spawn } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { stringify } from 'yaml'
import { finished, K6_ARGUMENTS, type RunScenario, type Settings } from '../../loadtest/runner/k6.ts'
import { noLines, takeLine } from '../../loadtest/runner/lines.ts'
import { checkScenario, perform, REPORTS, writeReport } from '../../loadtest/runner/session.ts'
import { readTarget } from '../../loadtest/runner/target.ts'
import { pinnedVersion } from '../tools.ts'
import { bearerToken, type Deployment, serverDeployment, tokenSecret } from './checks.ts'
import { type Environment, RELEASE, ROOT } from './environments.ts'
import { Advice, type Kube } from './kube.ts'

const NAME = `${RELEASE}-loadtest`
/** The public image of the version that the scripts are tested with. */
const PUBLIC_IMAGE = `docker.io/grafana/k6:${pinnedVersion('k6').slice(1)}`
/** What k6 needs; the runner and the tests stay here. */
const SCRIPTS = ['lib', 'scenarios', 'thresholds', 'workloads']
const TOKEN_FOLDER = '/run/secrets/diffusers-mcp'
/** Pause between looks at the Job, in milliseconds, and how often a pod that does not start is looked at. */
const LOOK_MS = 1000
const LOOKS = 300

export interface LoadTestOptions {
  readonly scenario: string
  readonly settings: Settings
  /** Empty: k6's own. */
  readonly image: string
  /** Where the report goes; empty: loadtest/reports. */
  readonly out: string
}

/** Runs a scenario in the namespace of the server; the exit status. */
export async function loadTest(
  kube: Kube,
  environment: Environment,
  options: LoadTestOptions,
): Promise<number> {
  const { scenario, out } = options
  const { namespace, name } = environment
  checkScenario(scenario)
  if (options.settings.TOKEN || options.settings.TOKEN_FILE)
    throw new Advice(
      'In the cluster the token comes from the Secret of the server (MCP_AUTH_TOKEN); with another one test from here:',
      'npm run loadtest -- SCENARIO --url URL',
    )
  const deployment = serverDeployment(kube, environment)
  const service = kube.get<{ spec: { ports: { port: number }[] } }>(['-n', namespace, 'service', RELEASE])
  const image = options.image || PUBLIC_IMAGE
  const settings = {
    ...options.settings,
    BASE_URL: `http://${RELEASE}:${service?.spec.ports[0]?.port ?? 8080}`,
  }
  const objectsOf = (of: string, all: Settings) =>
    loadTestObjects({ namespace, scenario: of, settings: all, image, deployment })
  if (kube.dryRun) {
    process.stdout.write(yamlOf(objectsOf(scenario, settings)))
    return 0
  }
  const run: RunScenario = (of, all) => runJob(kube, { namespace, image, objects: objectsOf(of, all) })
  const target = await targetOf(kube, { namespace, deployment, model: options.settings.MODEL })
  const result = await perform(scenario, {
    run,
    settings,
    server: `${RELEASE} in ${namespace}`,
    target,
  })
  process.stdout.write(`Remove what is left of it: make load-test ENV=${name} SCENARIO=none\n`)
  return writeReport(result, out || REPORTS)
}

async function targetOf(
  kube: Kube,
  { namespace, deployment, model }: { namespace: string; deployment: Deployment; model: string | undefined },
) {
  const { port, close } = await kube.forward({ namespace, service: RELEASE, port: 8080 })
  try {
    const token = bearerToken(kube, { namespace, deployment })
    return await readTarget({ url: `http://127.0.0.1:${port}`, token, model })
  } finally {
    close()
  }
}

/**
 * The ConfigMap with the scripts and the Job that runs one of them, under the restricted Pod Security level. Its pods have
 * the labels of the chart's own test, which the server's NetworkPolicy lets in.
 */
export function loadTestObjects(options: {
  readonly namespace: string
  readonly scenario: string
  readonly settings: Settings
  readonly image: string
  readonly deployment: Deployment
}): Record<string, unknown>[] {
  const { namespace, scenario, settings, image, deployment } = options
  const labels = {
    'app.kubernetes.io/name': 'diffusers-mcp',
    'app.kubernetes.io/instance': RELEASE,
    'app.kubernetes.io/component': 'test',
    'app.kubernetes.io/part-of': 'diffusers-mcp',
  }
  const metadata = { name: NAME, namespace, labels }
  const scripts = SCRIPTS.flatMap((folder) =>
    readdirSync(`${ROOT}loadtest/${folder}`).map((file) => ({
      key: `${folder}.${file}`,
      path: `${folder}/${file}`,
    })),
  )
  const { imagePullSecrets, securityContext } = deployment.spec.template.spec
  const secret = tokenSecret(deployment)
  const environment = {
    ...settings,
    RECORDS: '1',
    ...(secret ? { TOKEN_FILE: `${TOKEN_FOLDER}/MCP_AUTH_TOKEN` } : {}),
  }
  return [
    {
      ...{ apiVersion: 'v1', kind: 'ConfigMap', metadata },
      data: Object.fromEntries(
        scripts.map(({ key, path }) => [key, readFileSync(`${ROOT}loadtest/${path}`, 'utf8')]),
      ),
    },
    {
      ...{ apiVersion: 'batch/v1', kind: 'Job', metadata },
      spec: {
        // A load test that failed is a result, not something to try again.
        backoffLimit: 0,
        ttlSecondsAfterFinished: 3600,
        template: {
          metadata: { labels },
          spec: {
            ...{ restartPolicy: 'Never', automountServiceAccountToken: false, enableServiceLinks: false },
            ...(imagePullSecrets ? { imagePullSecrets } : {}),
            securityContext: {
              runAsNonRoot: true,
              seccompProfile: { type: 'RuntimeDefault' },
              ...securityContext,
            },
            containers: [
              {
                name: 'k6',
                image,
                imagePullPolicy: 'IfNotPresent',
                command: ['k6', ...K6_ARGUMENTS, `/loadtest/scenarios/${scenario}.ts`],
                env: Object.entries(environment).map(([name, value]) => ({ name, value })),
                securityContext: {
                  ...{ allowPrivilegeEscalation: false, privileged: false, readOnlyRootFilesystem: true },
                  ...{ runAsNonRoot: true, capabilities: { drop: ['ALL'] } },
                },
                resources: {
                  requests: { cpu: '250m', memory: '256Mi', 'ephemeral-storage': '16Mi' },
                  limits: { cpu: '2', memory: '2Gi', 'ephemeral-storage': '64Mi' },
                },
                volumeMounts: [
                  { name: 'scripts', mountPath: '/loadtest', readOnly: true },
                  ...(secret ? [{ name: 'token', mountPath: TOKEN_FOLDER, readOnly: true }] : []),
                ],
              },
            ],
            volumes: [
              { name: 'scripts', configMap: { name: NAME, items: scripts } },
              ...(secret
                ? [
                    {
                      name: 'token',
                      secret: {
                        ...{ secretName: secret, defaultMode: 0o440 },
                        items: [{ key: 'MCP_AUTH_TOKEN', path: 'MCP_AUTH_TOKEN' }],
                      },
                    },
                  ]
                : []),
            ],
          },
        },
      },
    },
  ]
}

/** Scripts as they are written, and labels where they belong instead of references to them. */
const yamlOf = (objects: readonly object[]) =>
  objects
    .map((object) => stringify(object, { aliasDuplicateObjects: false, blockQuote: 'literal', lineWidth: 0 }))
    .join('---\n')

/** Removes an earlier Job, makes this one, and reads its log to the end. */
async function runJob(
  kube: Kube,
  { namespace, image, objects }: { namespace: string; image: string; objects: readonly object[] },
) {
  removeLoadTest(kube, namespace)
  const folder = mkdtempSync(join(tmpdir(), 'loadtest-'))
  try {
    const file = join(folder, 'load-test.yaml')
    writeFileSync(file, yamlOf(objects))
    kube.change(['apply', '-f', file])
  } finally {
    rmSync(folder, { recursive: true })
  }
  await started(kube, { namespace, image })
  const lines = noLines()
  const log = spawn(kube.client, ['-n', namespace, 'logs', '--follow', `job/${NAME}`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  for await (const line of createInterface({ input: log.stdout }))
    if (!takeLine(lines, line) && line.trim() !== '') process.stderr.write(`${line}\n`)
  return finished(lines, await exitCode(kube, namespace))
}

interface LoadPod {
  readonly status: {
    readonly phase: string
    readonly containerStatuses?: {
      readonly state: {
        readonly waiting?: { readonly reason: string; readonly message?: string }
        readonly terminated?: { readonly exitCode: number }
      }
    }[]
  }
}

const podOf = (kube: Kube, namespace: string): LoadPod | undefined =>
  kube.get<{ items: LoadPod[] }>(['-n', namespace, 'pods', '-l', `job-name=${NAME}`])?.items[0]

/** Waits until k6 runs. @throws Advice when its image cannot be had, or the pod does not start. */
async function started(
  kube: Kube,
  { namespace, image }: { namespace: string; image: string },
): Promise<void> {
  for (let look = 0; look < LOOKS; look += 1) {
    const pod = podOf(kube, namespace)
    if (pod && pod.status.phase !== 'Pending') return
    const { reason, message = '' } = pod?.status.containerStatuses?.[0]?.state.waiting ?? { reason: '' }
    if (/ImagePull|ErrImage|InvalidImage/.test(reason))
      throw new Advice(
        `The image ${image} cannot be had: ${reason} ${message}`,
        'make load-test K6_IMAGE=registry.example.com/team/k6:1.8.1 ...    (any image with k6 on its PATH)',
      )
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS))
  }
  throw new Advice(
    `The pod of the Job ${NAME} did not start within ${(LOOKS * LOOK_MS) / 1000} s.`,
    `${kube.client} -n ${namespace} describe job,pod -l job-name=${NAME}`,
  )
}

/** The log ends a moment before the pod's status says so; null where it never does. */
async function exitCode(kube: Kube, namespace: string): Promise<number | null> {
  for (let look = 0; look < 30; look += 1) {
    const terminated = podOf(kube, namespace)?.status.containerStatuses?.[0]?.state.terminated
    if (terminated) return terminated.exitCode
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS))
  }
  return null
}

/** Removes Job, pod and scripts of an earlier load test. */
export function removeLoadTest(kube: Kube, namespace: string): void {
  kube.change([
    '-n',
    namespace,
    'delete',
    'job,configmap',
    NAME,
    '--ignore-not-found',
    '--cascade=foreground',
  ])
}
