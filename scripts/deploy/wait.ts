/** Waiting for a rollout with progress on the way, and with its cause when it fails. */
import { Advice, type Kube } from './kube.ts'

interface Condition {
  readonly type: string
  readonly status: string
  readonly reason?: string
  readonly message?: string
}
interface ContainerStatus {
  readonly name: string
  readonly ready: boolean
  readonly restartCount: number
  readonly state: {
    readonly waiting?: { readonly reason?: string; readonly message?: string }
    readonly running?: object
    readonly terminated?: { readonly reason?: string; readonly exitCode: number }
  }
}
export interface Pod {
  readonly metadata: { readonly name: string; readonly deletionTimestamp?: string }
  readonly spec: { readonly containers: readonly { readonly command: readonly string[] }[] }
  readonly status: {
    readonly phase: string
    readonly conditions?: readonly Condition[]
    readonly initContainerStatuses?: readonly ContainerStatus[]
    readonly containerStatuses?: readonly ContainerStatus[]
  }
}

/** One phrase for where a pod is, as `kubectl get pods` has it, with the reason where there is one. */
export function describePod({ metadata, status }: Pod): string {
  if (metadata.deletionTimestamp) return 'Terminating'
  const unscheduled = status.conditions?.find(
    ({ type, status }) => type === 'PodScheduled' && status === 'False',
  )
  if (unscheduled) return `Pending: ${unscheduled.message ?? unscheduled.reason}`
  const inits = status.initContainerStatuses ?? []
  const init = inits.find(({ state }) => !(state.terminated && state.terminated.exitCode === 0))
  const container = init ?? status.containerStatuses?.find(({ ready }) => !ready)
  if (!container) return status.phase === 'Running' ? 'Ready' : status.phase
  const { state, name, restartCount } = container
  const reason =
    state.waiting?.reason ?? (state.terminated ? `ended with ${state.terminated.exitCode}` : 'not ready yet')
  const restarts = restartCount > 0 ? `, ${restartCount} restarts` : ''
  return `${init ? 'Init' : status.phase} (${name}): ${state.waiting?.message ?? reason}${restarts}`
}

export interface Rollout {
  readonly namespace: string
  /** A Deployment, or an InferenceService of KServe's. */
  readonly kind: 'deployment' | 'inferenceservice'
  readonly name: string
  /** Selects its pods. */
  readonly selector: string
  readonly timeoutSeconds: number
  /** Container whose log says why it does not start. */
  readonly logOf?: string
}

interface Rolled {
  readonly metadata: { readonly generation: number }
  readonly spec: { readonly replicas?: number }
  readonly status?: {
    readonly observedGeneration?: number
    readonly updatedReplicas?: number
    readonly availableReplicas?: number
    readonly replicas?: number
    readonly conditions?: readonly Condition[]
  }
}

function isDone(kind: Rollout['kind'], { metadata, spec, status = {} }: Rolled): boolean {
  if (kind === 'inferenceservice')
    return status.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ?? false
  const wanted = spec.replicas ?? 1
  return (
    (status.observedGeneration ?? 0) >= metadata.generation &&
    status.updatedReplicas === wanted &&
    status.availableReplicas === wanted &&
    status.replicas === wanted
  )
}

/** Resolves when the rollout is complete. @throws Advice with the cause and the next command, when time is over. */
export async function waitForRollout(kube: Kube, rollout: Rollout): Promise<void> {
  const { namespace, kind, name, selector, timeoutSeconds, logOf } = rollout
  const started = Date.now()
  const seconds = () => Math.round((Date.now() - started) / 1000)
  let said = ''
  let pods: readonly Pod[] = []
  for (;;) {
    const object = kube.get<Rolled>(['-n', namespace, kind, name])
    pods = kube.get<{ items: Pod[] }>(['-n', namespace, 'pods', '-l', selector])?.items ?? []
    if (object && isDone(kind, object)) {
      process.stdout.write(`${kind} ${name} is ready after ${seconds()} s\n`)
      return
    }
    const states = pods.map((pod) => `  ${pod.metadata.name}: ${describePod(pod)}`).join('\n')
    const now = states || conditionOf(object)
    if (now !== said) process.stdout.write(`waiting for ${kind} ${name} (${seconds()} s):\n${now}\n`)
    said = now
    if (seconds() > timeoutSeconds) break
    await new Promise((resolve) => setTimeout(resolve, 2000))
  }
  const broken = pods.find((pod) => describePod(pod) !== 'Ready')
  const log =
    broken && logOf ? lastWords(kube, { namespace, pod: broken.metadata.name, container: logOf }) : ''
  throw new Advice(
    `${kind} ${name} in ${namespace} is not ready after ${seconds()} s.\n${said}${log}`,
    `${kube.client} -n ${namespace} describe pod -l ${selector}`,
    `${kube.client} -n ${namespace} logs -l ${selector} --all-containers --tail=50`,
  )
}

function conditionOf(object: Rolled | undefined): string {
  const failure = object?.status?.conditions?.find(
    ({ type, status }) =>
      (type === 'ReplicaFailure' && status === 'True') || (type === 'Ready' && status === 'False'),
  )
  return `  ${failure?.message ?? failure?.reason ?? 'no pod yet'}`
}

function lastWords(kube: Kube, where: { namespace: string; pod: string; container: string }): string {
  for (const previous of [[], ['--previous']])
    try {
      const args = ['-n', where.namespace, 'logs', where.pod, '-c', where.container, '--tail=20', ...previous]
      const text = kube.read(args).trim()
      if (text) return `\nThe log of ${where.container}:\n${text.replace(/^/gm, '  ')}`
    } catch {
      // It has not begun; the pod's state says why.
    }
  return ''
}
