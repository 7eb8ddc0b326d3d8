/** kubectl and helm against the cluster that KUBECONFIG names, for tests. */
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { stringify } from 'yaml'
import { tool } from '../../scripts/tools.ts'

export const ROOT = fileURLToPath(new URL('../..', import.meta.url))
export const VALUES = process.env.TEST_VALUES ?? `${ROOT}test/cluster/values.yaml`
/** The server's image, which also holds the simulated runtime and has Node for small scripts. */
export const SERVER_IMAGE = process.env.TEST_SERVER_IMAGE ?? 'localhost/diffusers-mcp:test'

/** Runs a command. @throws Error with all it printed when it fails. */
export function run(command: string, args: readonly string[], { input = '', env = {} } = {}): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd: ROOT,
    input,
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    env: { ...process.env, ...env },
  })
  if (status !== 0)
    throw new Error(
      `${command} ${args.join(' ')} ended with ${status}\n${stdout}${stderr}${error?.message ?? ''}`,
    )
  return stdout
}

export const kubectl = (...args: string[]): string => run('kubectl', args)
export const helm = (...args: string[]): string => run(tool('helm'), args)

/** An object or a list, parsed. */
// biome-ignore lint/suspicious/noExplicitAny: what comes back depends on what is asked for
export const get = (...args: string[]): any => JSON.parse(kubectl('get', ...args, '-o', 'json'))

/** Applies objects. */
export function apply(...objects: object[]): void {
  run('kubectl', ['apply', '-f', '-'], { input: objects.map((object) => stringify(object)).join('---\n') })
}

/** A namespace under the restricted Pod Security level; an old one of that name goes first. */
export function makeNamespace(name: string, labels: Record<string, string> = {}): void {
  clearNamespace(name)
  apply({
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name, labels: { 'pod-security.kubernetes.io/enforce': 'restricted', ...labels } },
  })
}

/** Removes a namespace and waits until all that was in it is gone. */
export const clearNamespace = (name: string) =>
  kubectl('delete', 'namespace', name, '--ignore-not-found', '--wait=true', '--timeout=240s')

/** The same without waiting: its pods take their time to finish. */
export const removeNamespace = (name: string) =>
  kubectl('delete', 'namespace', name, '--ignore-not-found', '--wait=false')

/** Calls until it returns something else than undefined, or does not throw. @throws what it threw last, or Error. */
export async function eventually<T>(
  what: string,
  ask: () => T | undefined | Promise<T | undefined>,
  timeoutSeconds = 120,
): Promise<T> {
  const end = Date.now() + timeoutSeconds * 1000
  let last: unknown
  for (;;) {
    try {
      const answer = await ask()
      if (answer !== undefined) return answer
      last = undefined
    } catch (error) {
      last = error
    }
    if (Date.now() > end)
      throw new Error(`${what}: not within ${timeoutSeconds} s${last ? `: ${(last as Error).message}` : ''}`)
    await new Promise((resolve) => setTimeout(resolve, 1000))
  }
}

const SECURITY = {
  pod: {
    runAsNonRoot: true,
    runAsUser: 10001,
    fsGroup: 10001,
    seccompProfile: { type: 'RuntimeDefault' },
  },
  container: {
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'] },
  },
}

interface PodOptions {
  readonly namespace: string
  readonly name: string
  readonly labels?: Record<string, string>
  readonly command: readonly string[]
  readonly env?: Record<string, string>
  readonly image?: string
  /** ConfigMaps as folders; each path. */
  readonly configMaps?: Record<string, string>
  readonly port?: number
}

/** What runs in a pod: restricted, with writable /tmp and /data. */
export function podSpec({ name, command, env = {}, image, configMaps = {}, port }: PodOptions): object {
  return {
    automountServiceAccountToken: false,
    enableServiceLinks: false,
    securityContext: SECURITY.pod,
    terminationGracePeriodSeconds: 1,
    containers: [
      {
        name,
        image: image ?? SERVER_IMAGE,
        imagePullPolicy: 'IfNotPresent',
        command,
        env: Object.entries(env).map(([key, value]) => ({ name: key, value })),
        securityContext: SECURITY.container,
        ...(port ? { readinessProbe: { tcpSocket: { port }, periodSeconds: 1 } } : {}),
        volumeMounts: [
          { name: 'tmp', mountPath: '/tmp' },
          { name: 'data', mountPath: '/data' },
          ...Object.entries(configMaps).map(([map, mountPath]) => ({ name: map, mountPath, readOnly: true })),
        ],
      },
    ],
    volumes: [
      { name: 'tmp', emptyDir: {} },
      { name: 'data', emptyDir: {} },
      ...Object.keys(configMaps).map((map) => ({ name: map, configMap: { name: map } })),
    ],
  }
}

/** A pod of that spec. */
export const pod = (options: PodOptions): object => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name: options.name, namespace: options.namespace, labels: options.labels ?? {} },
  spec: { restartPolicy: 'Never', ...podSpec(options) },
})

/** A Deployment of that spec. */
export const deployment = ({ replicas = 1, ...options }: PodOptions & { replicas?: number }): object => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: options.name, namespace: options.namespace },
  spec: {
    replicas,
    selector: { matchLabels: options.labels },
    template: { metadata: { labels: options.labels }, spec: podSpec(options) },
  },
})

/** Environment and command of the simulated KServe runtime, for every address. */
export const SIMULATED_RUNTIME = {
  command: ['node', 'src/main.simulated.ts'],
  env: { HOST: '0.0.0.0', PORT: '8080' },
  port: 8080,
}

/** A Service of one port. */
export const service = (options: {
  namespace: string
  name: string
  port: number
  targetPort?: number
  selector: Record<string, string>
}): object => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: options.name, namespace: options.namespace },
  spec: {
    selector: options.selector,
    ports: [{ port: options.port, targetPort: options.targetPort ?? options.port }],
  },
})
