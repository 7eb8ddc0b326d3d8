/** test-connectivity, test-integration, check-services and logs: whether a deployment works, for a person to read. */
import { writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import sharp from 'sharp'
import { type Environment, RELEASE, RUNTIME_NAMESPACE } from './environments.ts'
import { Advice, type Kube } from './kube.ts'
import { describePod, type Pod } from './wait.ts'

const SERVER_PODS = `app.kubernetes.io/instance=${RELEASE},app.kubernetes.io/component=server`

export interface Deployment {
  readonly spec: {
    readonly replicas?: number
    readonly template: {
      readonly spec: {
        readonly volumes?: readonly Volume[]
        readonly imagePullSecrets?: readonly { readonly name: string }[]
        readonly securityContext?: Readonly<Record<string, unknown>>
      }
    }
  }
  readonly status: { readonly readyReplicas?: number }
}
interface Volume {
  readonly name: string
  readonly projected?: {
    readonly sources: readonly {
      readonly secret?: { readonly name: string; readonly items: readonly { readonly key: string }[] }
    }[]
  }
}

/** The server's Deployment. @throws Advice where there is none. */
export function serverDeployment(kube: Kube, { name, namespace }: Environment): Deployment {
  const found = kube.get<Deployment>(['-n', namespace, 'deployment', RELEASE])
  if (!found)
    throw new Advice(
      `There is no deployment ${RELEASE} in namespace ${namespace}.`,
      `make deploy-${name === 'production' ? 'prod' : name}`,
    )
  return found
}

/** From a pod of the server: name, port and readiness of each target, by what its init container runs. */
export function testConnectivity(kube: Kube, environment: Environment): void {
  const { namespace, name } = environment
  serverDeployment(kube, environment)
  const pods = kube.get<{ items: Pod[] }>(['-n', namespace, 'pods', '-l', SERVER_PODS])!.items
  const running = pods.find(
    ({ metadata, status }) =>
      !metadata.deletionTimestamp && status.containerStatuses?.some(({ state }) => state.running),
  )
  if (!running) {
    const [pod] = pods
    if (pod) process.stdout.write(`${pod.metadata.name}: ${describePod(pod)}\n`)
    kube.attached(['-n', namespace, 'logs', `deployment/${RELEASE}`, '-c', 'wait-for-runtime', '--tail=40'])
    throw new Advice(
      'No server runs yet; above is what its init container says.',
      `${kube.client} -n ${namespace} describe pod -l ${SERVER_PODS}`,
    )
  }
  const command = running.spec.containers[0]!.command.map((part) =>
    part.replace(/main\.\w+\.ts$/, 'main.wait.ts'),
  )
  const exec = [
    'exec',
    running.metadata.name,
    '-c',
    'server',
    '--',
    'env',
    'RUNTIME_WAIT_MS=10000',
    ...command,
  ]
  if (kube.attached(['-n', namespace, ...exec]) !== 0)
    throw new Advice(
      `From ${running.metadata.name} the runtime cannot be used; the lines above say which step fails.`,
      `make check-services ENV=${name}`,
    )
  process.stdout.write(`ok: ${running.metadata.name} reaches its targets\n`)
}

const PICTURE = { prompt: 'a red car', width: 256, height: 256, num_inference_steps: 4, seed: 7 }
/** A picture on a CPU takes minutes, and others may be waiting. */
const PICTURE_TIMEOUT_MS = 900_000

/** A picture through the deployed server; its size and that something is drawn on it are checked. */
export async function testIntegration(kube: Kube, environment: Environment): Promise<void> {
  const { namespace, name } = environment
  const deployment = serverDeployment(kube, environment)
  const token = bearerToken(kube, { namespace, deployment })
  const { port, close } = await kube.forward({ namespace, service: RELEASE, port: 8080 })
  try {
    const started = Date.now()
    const answer = await fetch(`http://127.0.0.1:${port}/api/images`, {
      method: 'POST',
      headers: {
        'Content-Type': 'application/json',
        Accept: 'image/png',
        Prefer: `wait=${PICTURE_TIMEOUT_MS / 1000}`,
        ...(token ? { Authorization: `Bearer ${token}` } : {}),
      },
      body: JSON.stringify(PICTURE),
      signal: AbortSignal.timeout(PICTURE_TIMEOUT_MS),
    })
    const bytes = Buffer.from(await answer.arrayBuffer())
    if (answer.status !== 200)
      throw new Advice(
        `POST /api/images answered ${answer.status}: ${bytes.toString().slice(0, 1000)}`,
        `make test-connectivity ENV=${name}`,
        `make logs ENV=${name}`,
      )
    const size = await checkPicture(bytes)
    const file = join(tmpdir(), `${RELEASE}-${name}.png`)
    writeFileSync(file, bytes)
    process.stdout.write(
      `ok: a picture of ${size} from ${namespace} in ${((Date.now() - started) / 1000).toFixed(1)} s, in ${file}\n`,
    )
  } finally {
    close()
  }
}

/** @throws Advice when it is no picture of the asked size, or nothing is drawn on it. */
async function checkPicture(bytes: Buffer): Promise<string> {
  const image = sharp(bytes)
  const { width, height, format } = await image.metadata()
  const { channels } = await image.stats()
  const spread = Math.max(...channels.map(({ stdev }) => stdev))
  if (format !== 'png' || width !== PICTURE.width || height !== PICTURE.height || spread < 1)
    throw new Advice(
      `What came is no picture: ${format} ${width}x${height}, ${bytes.length} bytes, grey levels spread by ${spread.toFixed(2)}.`,
    )
  return `${width}x${height}`
}

/** The token that the server's own Secret holds; undefined where it takes none. */
export function bearerToken(
  kube: Kube,
  { namespace, deployment }: { namespace: string; deployment: Deployment },
): string | undefined {
  if (process.env.MCP_AUTH_TOKEN) return process.env.MCP_AUTH_TOKEN
  const secret = tokenSecret(deployment)
  if (!secret) return undefined
  const encoded = kube.read([
    '-n',
    namespace,
    'get',
    'secret',
    secret,
    '-o',
    'jsonpath={.data.MCP_AUTH_TOKEN}',
  ])
  return Buffer.from(encoded, 'base64').toString()
}

/** The name of the server's Secret with MCP_AUTH_TOKEN; undefined where it takes none. */
export function tokenSecret(deployment: Deployment): string | undefined {
  const sources = deployment.spec.template.spec.volumes?.find(({ name }) => name === 'secrets')?.projected
    ?.sources
  return sources?.find(({ secret }) => secret?.items.some(({ key }) => key === 'MCP_AUTH_TOKEN'))?.secret
    ?.name
}

interface Listed {
  readonly kind: string
  readonly metadata: { readonly name: string; readonly namespace: string }
  // biome-ignore lint/suspicious/noExplicitAny: what stands here depends on the kind
  readonly [key: string]: any
}

/** One line for each object of a kind: how it is. */
const STATES: Record<string, (object: Listed) => string> = {
  Deployment: ({ spec, status }) => `${status?.readyReplicas ?? 0} of ${spec.replicas ?? 1} ready`,
  StatefulSet: ({ spec, status }) => `${status?.readyReplicas ?? 0} of ${spec.replicas ?? 1} ready`,
  InferenceService: ({ status }) => {
    const ready = status?.conditions?.find(({ type }: { type: string }) => type === 'Ready')
    return ready?.status === 'True' ? 'ready' : `not ready: ${ready?.message ?? 'no condition yet'}`
  },
  Pod: (pod) => describePod(pod as unknown as Pod),
  Service: ({ spec }) =>
    `${spec.type} ${spec.ports?.map(({ port }: { port: number }) => port).join(', ') ?? ''}`,
  HorizontalPodAutoscaler: ({ spec, status }) =>
    `${status?.currentReplicas ?? 0} now, ${spec.minReplicas} to ${spec.maxReplicas}`,
  PodDisruptionBudget: ({ status }) => `${status?.disruptionsAllowed ?? 0} evictions allowed`,
  NetworkPolicy: ({ spec }) => `${spec.ingress?.length ?? 0} in, ${spec.egress?.length ?? 0} out`,
  Ingress: ({ spec }) => spec.rules?.map(({ host }: { host: string }) => host).join(', '),
  Route: ({ spec }) => spec.host,
}

/** A table of everything that belongs to a deployment. @throws Advice when a part of it is not there or not ready. */
export function checkServices(kube: Kube, environment: Environment): void {
  const { namespace, name, runtime } = environment
  const kinds = [
    ...['deployments', 'statefulsets', 'pods', 'services', 'hpa', 'pdb', 'networkpolicies', 'ingresses'],
    'routes.route.openshift.io',
  ]
  const own = kinds.flatMap((kind) =>
    list(kube, [kind, '-n', namespace, '-l', `app.kubernetes.io/instance=${RELEASE}`]),
  )
  const theirs = [
    ...list(kube, [
      'inferenceservices.serving.kserve.io',
      '-n',
      RUNTIME_NAMESPACE,
      '-l',
      `app.kubernetes.io/instance=${runtime}`,
    ]),
    ...['deployments', 'services', 'networkpolicies'].flatMap((kind) =>
      list(kube, [kind, '-n', RUNTIME_NAMESPACE, '-l', `app.kubernetes.io/instance=${runtime}`]),
    ),
    ...[`serving.kserve.io/inferenceservice=${runtime}`, `diffusers-mcp/runtime=${runtime}`].flatMap(
      (label) => list(kube, ['pods', '-n', RUNTIME_NAMESPACE, '-l', label]),
    ),
  ]
  const rows = [...own, ...theirs].map((object) => [
    object.kind,
    `${object.metadata.namespace}/${object.metadata.name}`,
    STATES[object.kind]?.(object) ?? '',
  ])
  print([['KIND', 'OBJECT', 'STATE'], ...rows])
  if (own.length === 0)
    throw new Advice(
      `Nothing of ${RELEASE} is in ${namespace}.`,
      `make deploy-${name === 'production' ? 'prod' : name}`,
    )
  const wrong = rows.filter(([kind, , state]) =>
    kind === 'Deployment' || kind === 'StatefulSet'
      ? !/^(\d+) of \1 ready$/.test(state!)
      : kind === 'InferenceService' && state !== 'ready',
  )
  if (wrong.length > 0)
    throw new Advice(
      `Not ready: ${wrong.map(([kind, object]) => `${kind} ${object}`).join(', ')}.`,
      ...wrong.map(([kind, object]) => {
        const [where, what] = object!.split('/')
        return `${kube.client} -n ${where} describe ${kind!.toLowerCase()} ${what}`
      }),
      `make test-connectivity ENV=${name}`,
    )
  if (theirs.length === 0)
    throw new Advice(
      `The runtime ${runtime} is not in ${RUNTIME_NAMESPACE}.`,
      `make deploy-with-diffusers-${name === 'production' ? 'prod' : 'dev'}`,
    )
  process.stdout.write('ok: everything is ready\n')
}

const list = (kube: Kube, args: readonly string[]): Listed[] =>
  kube.get<{ items: Listed[] }>(args)?.items.map((item) => item) ?? []

function print(rows: readonly (readonly (string | undefined)[])[]): void {
  const widths = [0, 1].map((column) => Math.max(...rows.map((row) => row[column]!.length)))
  for (const [kind, object, state] of rows)
    process.stdout.write(`${kind!.padEnd(widths[0]!)}  ${object!.padEnd(widths[1]!)}  ${state}\n`)
}

/** The servers' log; `follow` until it is interrupted. */
export function logs(kube: Kube, { namespace }: Environment, { follow }: { follow: boolean }): number {
  return kube.attached([
    ...['-n', namespace, 'logs', '-l', SERVER_PODS, '--all-containers', '--prefix', '--tail=100'],
    ...(follow ? ['--follow'] : []),
  ])
}
