/**
 * Waits until every target can make pictures, for a server that is to start after them. It tries each target in three
 * steps, because each step has another remedy: does its name resolve, does its port answer, is its model ready.
 */
import { lookup } from 'node:dns/promises'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import type { TargetDefinition } from './targets.ts'
import { createTargets } from './targets.ts'

/** How long one step may take, and the pause before the next attempt, in milliseconds. */
const STEP_MS = 5000
const PAUSE_MS = 2000

export type Step = 'name' | 'port' | 'readiness'

export interface WaitOptions {
  readonly targets: readonly TargetDefinition[]
  /** For all targets together, in milliseconds. */
  readonly timeoutMs: number
  readonly pauseMs?: number
  /** Called with each line for the log: when something changes, not at every attempt. */
  readonly say: (line: string) => void
}

/**
 * Resolves with true once every target is ready, and with false when the time is over; by then it has said what to look
 * at. Targets without a URL need no waiting.
 */
export async function waitForTargets({
  targets,
  timeoutMs,
  pauseMs = PAUSE_MS,
  say,
}: WaitOptions): Promise<boolean> {
  const started = performance.now()
  const left = () => started + timeoutMs - performance.now()
  for (const target of targets) {
    if (target.kind === 'simulated' || target.kind === 'embedded') {
      say(`${target.name}: is ${target.kind} in the server, nothing to wait for`)
      continue
    }
    if (target.scaleFromZero) {
      say(`${target.name}: may have no replica until it is asked for a picture, nothing to wait for`)
      continue
    }
    const urls = target.urls ?? [target.url as string]
    let said = ''
    for (;;) {
      let url = ''
      let result: Awaited<ReturnType<typeof tryOnce>>
      // One replica is enough to begin with.
      for (url of urls) {
        result = await tryOnce({ target, url, timeoutMs: () => Math.min(STEP_MS, Math.max(left(), 1)) })
        if (result === undefined) break
      }
      const line =
        result === undefined
          ? `${target.name}: ready at ${url} (name, port and readiness)`
          : `${target.name}: waiting, its ${result.step} fails: ${result.why}`
      if (line !== said) say(line)
      said = line
      if (result === undefined) break
      if (left() <= pauseMs) {
        say(
          `${target.name}: not ready after ${Math.round((performance.now() - started) / 1000)} s, giving up.`,
        )
        for (const advice of adviceFor(url, target.name, result.step)) say(advice)
        return false
      }
      await sleep(pauseMs)
    }
  }
  return true
}

type Reachable = Exclude<TargetDefinition, { kind: 'simulated' | 'embedded' }>

/** The first step that fails and why; undefined when the target is ready. */
async function tryOnce(options: {
  readonly target: Reachable
  readonly url: string
  readonly timeoutMs: () => number
}): Promise<{ step: Step; why: string } | undefined> {
  const { target, url, timeoutMs } = options
  const { hostname, port, protocol } = new URL(url)
  const host = hostname.replace(/^\[|\]$/g, '')
  const portNumber = Number(port || (protocol === 'https:' ? 443 : 80))
  let step: Step = 'name'
  const [{ pool }] = createTargets([{ ...target, url, urls: undefined, discovery: undefined }]) as [
    ReturnType<typeof createTargets>[number],
  ]
  try {
    await within(timeoutMs(), lookup(host))
    step = 'port'
    await canConnect({ host, port: portNumber, timeoutMs: timeoutMs() })
    step = 'readiness'
    await pool.check({ signal: AbortSignal.timeout(timeoutMs()) })
    return undefined
  } catch (error) {
    const { code, message, cause } = error as Error & { code?: string }
    const detail = cause instanceof Error ? cause.message : message
    return {
      step,
      why: {
        name: `${host} does not resolve`,
        port: `no connection to port ${portNumber}`,
        readiness: message,
      }[step].concat(step === 'readiness' ? '' : ` (${code ?? detail})`),
    }
  } finally {
    await pool.close()
  }
}

async function within<T>(timeoutMs: number, promise: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${timeoutMs} ms`)), timeoutMs)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

function canConnect(options: { host: string; port: number; timeoutMs: number }): Promise<void> {
  const { host, port, timeoutMs } = options
  const socket = connect({ host, port })
  return within(
    timeoutMs,
    new Promise<void>((resolve, reject) => {
      socket.once('connect', () => resolve())
      socket.once('error', reject)
    }),
  ).finally(() => socket.destroy())
}

/** What to look at, most likely cause first; commands are for kubectl, and oc takes them too. */
function adviceFor(url: string, name: string, step: Step): string[] {
  const { hostname } = new URL(url)
  const [service, namespace] = /^([a-z0-9-]+)\.([a-z0-9-]+)\.svc(\.|$)/.exec(hostname)?.slice(1) ?? []
  if (!service || !namespace)
    return [
      `Look at the runtime at ${url}: is it up, and may this namespace reach it (kubectl get networkpolicies)?`,
    ]
  const kubectl = `kubectl -n ${namespace}`
  // The chart calls its headless Service so.
  const runtimeName = service.replace(/-pods$/, '')
  const pods = `-l serving.kserve.io/inferenceservice=${runtimeName}`
  const plain = `-l diffusers-mcp/runtime=${runtimeName}`
  const runtime = [
    `  ${kubectl} get inferenceservice,deployment ${runtimeName}`,
    `  ${kubectl} get pods ${pods}      (without KServe: ${plain})`,
    `  ${kubectl} describe pod ${pods}`,
    `  ${kubectl} logs ${pods}`,
  ]
  const causes: Record<Step, string[]> = {
    name: [
      ...(runtimeName === service
        ? [
            `There is no Service ${service} in namespace ${namespace}, or DNS does not answer. Is the runtime deployed?`,
          ]
        : [
            `No pod of the runtime is ready, and ${service} has only ready ones: the model is loading (5-10 minutes are usual), or it failed.`,
            `Else there is no Service ${service} in namespace ${namespace}, or DNS does not answer.`,
          ]),
      `  ${kubectl} get service ${service}`,
      ...runtime.slice(0, 2),
      '  make deploy-with-diffusers-dev      (deploys both)',
    ],
    port: [
      'The name resolves and nothing answers: the runtime has no ready pod, or a network policy is in between.',
      `  ${kubectl} get endpointslices -l kubernetes.io/service-name=${service}`,
      ...runtime,
      `  ${kubectl} get networkpolicies      (and in the namespace of this pod)`,
    ],
    readiness: [
      'The runtime answers and its model is not ready: it is loading (5-10 minutes are usual), or it failed.',
      ...runtime.slice(1),
    ],
  }
  return [...causes[step], `More: make check-services, make test-connectivity (${name})`]
}
