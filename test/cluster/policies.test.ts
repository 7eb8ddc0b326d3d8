/** Network policies: who reaches whom, each pair a real connection from a pod. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  apply,
  deployment,
  get,
  helm,
  kubectl,
  makeNamespace,
  pod,
  removeNamespace,
  SIMULATED_RUNTIME,
  VALUES,
} from './kube.ts'

const NAMESPACE = 'test-policies'
const RUNTIME_NAMESPACE = 'test-policies-runtime'
const OTHER = 'test-policies-other'
const MONITORING = 'test-policies-monitoring'
const KEDA = 'test-policies-keda'
const ALL = [NAMESPACE, RUNTIME_NAMESPACE, OTHER, MONITORING, KEDA]

/** Listens on every port that a test connects to. */
const LISTEN = `for (const port of [443, 5353, 6379, 8080, 8888, 9090, 9999].map((p) => (p < 1024 ? p + 8000 : p)))
  require('net').createServer((s) => s.end()).listen(port, '0.0.0.0')`
const listener = (namespace: string, name: string, labels: Record<string, string> = { app: name }) =>
  pod({ namespace, name, labels, command: ['node', '-e', LISTEN] })

beforeAll(() => {
  for (const namespace of ALL) makeNamespace(namespace)
  helm(
    ...['install', 'mcp-server', 'chart', '--namespace', NAMESPACE, '--values', VALUES],
    ...['--set', 'server.replicas=2', '--set', 'valkey.mode=embedded', '--set', 'images.backend=s3'],
    ...['--set', 'images.s3.endpoint=http://s3.invalid:8333', '--set', 'images.s3.bucket=pictures'],
    ...['--set', 'images.s3.existingSecret=s3', '--set', `networkPolicy.egress.s3.namespace=${OTHER}`],
    ...['--set', 'networkPolicy.egress.s3.port=9999', '--set', 'server.publicUrl=http://mcp-server:8080'],
    ...['--set', 'server.existingSecret=keys', '--set', `networkPolicy.monitoringNamespaces={${MONITORING}}`],
    ...['--set', 'runtime.mode=external', '--set', 'runtime.name=kserved'],
    ...['--set', `runtime.namespace=${RUNTIME_NAMESPACE}`, '--set', 'runtime.discovery=dns'],
    ...['--set', 'runtime.autoscaling.enabled=true', '--set', `networkPolicy.kedaNamespace=${KEDA}`],
  )
  // Stand-ins with the labels of the chart's pods: policies select by labels, and these listen on every port.
  const own = (component: string) => ({
    'app.kubernetes.io/name': 'diffusers-mcp',
    'app.kubernetes.io/instance': 'mcp-server',
    'app.kubernetes.io/component': component,
  })
  helm(
    ...['install', 'plain', 'chart', '--namespace', RUNTIME_NAMESPACE, '--values', VALUES],
    ...['--set', 'server.enabled=false', '--set', 'runtime.mode=kserve', '--set', 'runtime.name=kserved'],
    ...['--set', 'runtime.model.source=pvc', '--set', 'runtime.model.pvc.claim=none'],
    ...['--set', `runtime.clientNamespaces={${NAMESPACE}}`],
    ...['--set', `networkPolicy.monitoringNamespaces={${MONITORING}}`],
  )
  const kserve = { 'serving.kserve.io/inferenceservice': 'kserved', component: 'predictor' }
  apply(
    listener(NAMESPACE, 'server', own('server')),
    listener(NAMESPACE, 'valkey', own('valkey')),
    listener(NAMESPACE, 'neighbour'),
    listener(RUNTIME_NAMESPACE, 'runtime', kserve),
    listener(RUNTIME_NAMESPACE, 'bystander'),
    listener(OTHER, 'stranger'),
    listener(OTHER, 'impostor', own('server')),
    listener(MONITORING, 'prometheus'),
    listener(KEDA, 'keda'),
    deployment({
      namespace: OTHER,
      name: 'unused',
      labels: { app: 'unused' },
      replicas: 0,
      ...SIMULATED_RUNTIME,
    }),
  )
  for (const namespace of ALL)
    kubectl(
      '-n',
      namespace,
      'wait',
      '--for=jsonpath={.status.phase}=Running',
      'pod',
      '-l',
      'app',
      '--timeout=120s',
    )
  for (const [namespace, name] of [
    [NAMESPACE, 'server'],
    [NAMESPACE, 'valkey'],
    [RUNTIME_NAMESPACE, 'runtime'],
    [OTHER, 'impostor'],
  ] as const)
    kubectl(
      '-n',
      namespace,
      'wait',
      '--for=jsonpath={.status.phase}=Running',
      `pod/${name}`,
      '--timeout=120s',
    )
  tryAll()
}, 600_000)

afterAll(() => {
  for (const namespace of ALL) removeNamespace(namespace)
}, 600_000)

const HOME: Record<string, string> = {
  server: NAMESPACE,
  valkey: NAMESPACE,
  neighbour: NAMESPACE,
  runtime: RUNTIME_NAMESPACE,
  bystander: RUNTIME_NAMESPACE,
  stranger: OTHER,
  impostor: OTHER,
  prometheus: MONITORING,
  keda: KEDA,
}

const ALLOWED = [
  ['neighbour', 'server', 8080, 'clients in the namespace'],
  ['prometheus', 'server', 9090, 'metrics'],
  ['prometheus', 'runtime', 8888, 'metrics'],
  ['keda', 'server', 9090, 'how much waits'],
  ['server', 'runtime', 8080, 'pictures, in another namespace, by KServe’s labels'],
  ['server', 'valkey', 6379, 'jobs'],
  ['server', 'stranger', 9999, 'the picture store, by its namespace'],
  ['neighbour', 'stranger', 8080, 'nobody’s business: no policy of ours touches it'],
] as const
const DENIED = [
  ['stranger', 'server', 8080, 'clients of another namespace'],
  ['neighbour', 'server', 9090, 'metrics are for Prometheus'],
  ['prometheus', 'server', 8080, 'and Prometheus is for metrics'],
  ['keda', 'server', 8080, 'and so is the autoscaler'],
  ['keda', 'runtime', 8080, 'which has no use for pictures'],
  ['neighbour', 'valkey', 6379, 'jobs are the servers’ alone'],
  ['stranger', 'valkey', 6379, 'from elsewhere too'],
  ['impostor', 'valkey', 6379, 'labels alone do not do, in another namespace'],
  ['neighbour', 'runtime', 8080, 'the runtime is the servers’ alone'],
  ['bystander', 'runtime', 8080, 'in its own namespace too'],
  ['impostor', 'runtime', 8080, 'a server of a namespace that is not named'],
  ['server', 'runtime', 8888, 'servers have no use for metrics'],
  ['server', 'neighbour', 8080, 'servers call nobody else'],
  ['server', 'bystander', 8080, 'not even beside the runtime'],
  ['server', 'stranger', 8080, 'nor another port of the picture store'],
  ['valkey', 'server', 8080, 'Valkey calls nobody'],
  ['valkey', 'stranger', 9999, 'at all'],
  ['runtime', 'server', 8080, 'nor does a runtime with its model on a volume'],
  ['runtime', 'stranger', 8443, 'at all'],
] as const

type Pair = readonly [from: string, to: string, port: number, why: string]
const PAIRS: readonly Pair[] = [...ALLOWED, ...DENIED]
/** What came of each pair: all connections of a pod are tried at once, for those that are dropped take 3 s each. */
const outcomes = new Map<string, string>()
const nameOf = (from: string, to: string, port: number) => `${from} -> ${to}:${port}`

function tryAll(): void {
  const address = Object.fromEntries(
    Object.entries(HOME).map(([name, namespace]) => [name, get('-n', namespace, 'pod', name).status.podIP]),
  )
  for (const [from, namespace] of Object.entries(HOME)) {
    const targets = PAIRS.filter((pair) => pair[0] === from).map(([, to, port]) => [address[to], port])
    const script = `const ask = ([host, port]) => new Promise((resolve) => {
        const s = require('net').connect(port, host)
        s.once('connect', () => resolve('open'))
        s.once('error', (e) => resolve('refused ' + e.code))
        setTimeout(() => resolve('dropped'), 3000)
      })
      Promise.all(${JSON.stringify(targets)}.map(ask)).then((all) => { console.log(JSON.stringify(all)); process.exit() })`
    const answers: string[] = JSON.parse(kubectl('-n', namespace, 'exec', from, '--', 'node', '-e', script))
    PAIRS.filter((pair) => pair[0] === from).forEach(([, to, port], i) => {
      outcomes.set(nameOf(from, to, port), answers[i]!)
    })
  }
}

describe('allowed', () => {
  test.each(ALLOWED)('%s -> %s:%i (%s)', (from, to, port) => {
    expect(outcomes.get(nameOf(from, to, port))).toBe('open')
  })

  test('servers resolve names', () => {
    const script = `require('dns').promises.lookup('kubernetes.default.svc.cluster.local').then((a) => console.log(a.address))`
    expect(kubectl('-n', NAMESPACE, 'exec', 'server', '--', 'node', '-e', script)).toMatch(/^\d+\./)
  })
})

describe('denied', () => {
  test.each(DENIED)('%s -> %s:%i (%s)', (from, to, port) => {
    // Everybody listens on every port, so a refusal would be a fault of the test.
    expect(outcomes.get(nameOf(from, to, port))).toBe('dropped')
  })
})
