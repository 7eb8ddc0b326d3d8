/** Three servers on Valkey and S3 under traffic: whatever the cluster does to them, no call fails and no job is lost. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import {
  apply,
  deployment,
  eventually,
  get,
  helm,
  kubectl,
  makeNamespace,
  removeNamespace,
  run,
  SIMULATED_RUNTIME,
  service,
  VALUES,
} from './kube.ts'
import { createTraffic } from './under-traffic.ts'

const NAMESPACE = 'test-many'
const TOKEN = 'token-of-the-cluster-tests-0123456789'
const S3_IMAGE = process.env.TEST_S3_IMAGE ?? 'localhost/seaweedfs:test'
const SERVERS = ['-l', 'app.kubernetes.io/component=server']
let traffic: ReturnType<typeof createTraffic>
const RUNTIME = { 'diffusers-mcp/runtime': 'drawn' }
const S3 = { app: 's3' }

const VALUES_OF_MANY = [
  ...['--values', VALUES, '--set', 'server.replicas=3', '--set', 'server.publicUrl=http://mcp-server:8080'],
  ...['--set', 'server.existingSecret=keys', '--set', 'valkey.mode=embedded', '--set', 'images.backend=s3'],
  ...['--set', 'images.s3.endpoint=http://s3:8333', '--set', 'images.s3.bucket=pictures'],
  ...['--set', 'images.s3.existingSecret=s3', '--set', `networkPolicy.egress.s3.namespace=${NAMESPACE}`],
  ...['--set', 'runtime.mode=external', '--set', 'runtime.name=drawn', '--set', 'runtime.slots=4'],
  // Shorter than a picture of 200 steps, so that a stopping server hands its callers on.
  ...['--set', 'runtime.queue=100', '--set', 'server.drainDelayMs=2000'],
]
const upgrade = (...more: string[]) =>
  helm('upgrade', '--install', 'mcp-server', 'chart', '-n', NAMESPACE, ...VALUES_OF_MANY, ...more)
const rolledOut = () =>
  kubectl('-n', NAMESPACE, 'rollout', 'status', 'deployment/mcp-server', '--timeout=300s')

beforeAll(async () => {
  makeNamespace(NAMESPACE)
  const keys = { MCP_AUTH_TOKEN: TOKEN, IMAGE_URL_KEY: 'signing-key-of-the-cluster-tests-0123456789' }
  const s3 = { IMAGES_S3_ACCESS_KEY: 'test-access-key', IMAGES_S3_SECRET_KEY: 'test-secret-key' }
  const credentials = [{ accessKey: s3.IMAGES_S3_ACCESS_KEY, secretKey: s3.IMAGES_S3_SECRET_KEY }]
  const identities = [{ name: 'test', credentials, actions: ['Admin', 'Read', 'Write', 'List'] }]
  const weed = [
    'weed',
    'server',
    '-dir=/data',
    '-s3',
    '-s3.config=/config/s3.json',
    '-ip=127.0.0.1',
    '-ip.bind=0.0.0.0',
  ]
  const map = (name: string, data: object) => ({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name, namespace: NAMESPACE },
    data,
  })
  const secret = (name: string, stringData: object) => ({
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: { name, namespace: NAMESPACE },
    stringData,
  })
  apply(
    secret('keys', keys),
    secret('s3', s3),
    map('s3-config', { 's3.json': JSON.stringify({ identities }) }),
    deployment({
      namespace: NAMESPACE,
      name: 's3',
      labels: S3,
      image: S3_IMAGE,
      command: [...weed, '-volume.max=5', '-master.volumeSizeLimitMB=64', '-master.telemetry=false'],
      configMaps: { 's3-config': '/config' },
      port: 8333,
    }),
    service({ namespace: NAMESPACE, name: 's3', port: 8333, selector: S3 }),
    deployment({ namespace: NAMESPACE, name: 'drawn', labels: RUNTIME, ...SIMULATED_RUNTIME }),
    service({ namespace: NAMESPACE, name: 'drawn', port: 8080, selector: RUNTIME }),
  )
  kubectl('-n', NAMESPACE, 'rollout', 'status', 'deployment/s3', '--timeout=180s')
  await eventually('the bucket', () => {
    const shell =
      'echo "s3.bucket.create -name pictures" | weed shell -master=127.0.0.1:9333; echo s3.bucket.list | weed shell -master=127.0.0.1:9333'
    return (
      kubectl('-n', NAMESPACE, 'exec', 'deployment/s3', '--', 'sh', '-c', shell).includes('pictures') ||
      undefined
    )
  })
  traffic = createTraffic({ namespace: NAMESPACE, token: TOKEN })
  upgrade()
  rolledOut()
})
afterAll(() => removeNamespace(NAMESPACE))

const servers = (): { metadata: { name: string; deletionTimestamp?: string } }[] =>
  get('-n', NAMESPACE, 'pods', ...SERVERS).items
const serverNames = () =>
  servers()
    .filter(({ metadata }) => !metadata.deletionTimestamp)
    .map(({ metadata }) => metadata.name)

test('a rolling update fails no call', async () => {
  const before = serverNames()
  const { pictures, handles, failures } = await traffic.under('rolling', { steps: 200 }, () => {
    kubectl('-n', NAMESPACE, 'rollout', 'restart', 'deployment/mcp-server')
    rolledOut()
  })
  expect(serverNames().filter((name) => before.includes(name))).toEqual([])
  expect(failures).toEqual([])
  expect(pictures).toBeGreaterThan(10)
  expect(handles).toBeGreaterThan(0)
})

test('scaling down and up fails no call', async () => {
  const { pictures, failures } = await traffic.under('scaling', {}, async () => {
    kubectl('-n', NAMESPACE, 'scale', 'deployment/mcp-server', '--replicas=1')
    await eventually('one server', () => servers().length === 1 || undefined, 180)
    kubectl('-n', NAMESPACE, 'scale', 'deployment/mcp-server', '--replicas=3')
    rolledOut()
  })
  expect(failures).toEqual([])
  expect(pictures).toBeGreaterThan(10)
})

test('evictions one by one fail no call, and the budget refuses a second one until the first is replaced', async () => {
  const evict = (name: string) => {
    const body = { apiVersion: 'policy/v1', kind: 'Eviction', metadata: { name, namespace: NAMESPACE } }
    const path = `/api/v1/namespaces/${NAMESPACE}/pods/${name}/eviction`
    run('kubectl', ['create', '--raw', path, '-f', '-'], { input: JSON.stringify(body) })
  }
  const victims = serverNames()
  expect(victims).toHaveLength(3)
  let refused = 0
  const { pictures, failures } = await traffic.under('evicting', { steps: 200 }, async () => {
    for (const victim of victims)
      await eventually(
        `the eviction of ${victim}`,
        () => {
          try {
            evict(victim)
            return true
          } catch (error) {
            expect((error as Error).message).toContain('disruption budget')
            refused += 1
            return undefined
          }
        },
        180,
      )
    rolledOut()
  })
  expect(refused).toBeGreaterThanOrEqual(2)
  expect(serverNames().filter((name) => victims.includes(name))).toEqual([])
  expect(failures).toEqual([])
  expect(pictures).toBeGreaterThan(10)
})

test('an upgrade with other values and a rollback keep accepted jobs', async () => {
  const script = (body: string) =>
    kubectl('-n', NAMESPACE, 'exec', 'deployment/drawn', '--', 'node', '--input-type=module', '-e', body)
  const base = `const base = 'http://mcp-server.${NAMESPACE}:8080', headers = { Authorization: 'Bearer ${TOKEN}', 'Content-Type': 'application/json' };`
  const accepted = JSON.parse(
    script(`${base} const ids = []
      for (let seed = 0; seed < 12; seed++) {
        const body = JSON.stringify({ prompt: 'kept', seed, width: 64, height: 64, num_inference_steps: 200 })
        const r = await fetch(base + '/api/images', { method: 'POST', body, headers: { ...headers, Prefer: 'respond-async' } })
        if (r.status !== 202) throw new Error(r.status + await r.text())
        ids.push((await r.json()).job_id)
      }
      console.log(JSON.stringify(ids))`),
  )
  expect(accepted).toHaveLength(12)
  upgrade('--set', 'server.logLevel=debug')
  rolledOut()
  expect(get('-n', NAMESPACE, 'configmap', 'mcp-server').data.LOG_LEVEL).toBe('debug')
  helm('rollback', 'mcp-server', '-n', NAMESPACE)
  rolledOut()
  expect(get('-n', NAMESPACE, 'configmap', 'mcp-server').data.LOG_LEVEL).toBe('info')
  const states = JSON.parse(
    script(`${base} const states = []
      for (const id of ${JSON.stringify(accepted)}) {
        const r = await fetch(base + '/api/jobs/' + id, { headers: { ...headers, Prefer: 'wait=60' } })
        states.push((await r.json()).state ?? r.status)
      }
      console.log(JSON.stringify(states))`),
  )
  expect(states).toEqual(accepted.map(() => 'succeeded'))
})

test('the autoscaler adds servers under load and takes them away after it, and no call fails', async () => {
  upgrade(
    ...['--set', 'server.autoscaling.enabled=true', '--set', 'server.autoscaling.minReplicas=2'],
    ...['--set', 'server.autoscaling.maxReplicas=4', '--set', 'server.autoscaling.cpuPercent=50'],
    ...['--set', 'server.autoscaling.scaleDownSeconds=5'],
  )
  const replicas = () => get('-n', NAMESPACE, 'deployment', 'mcp-server').spec.replicas
  await eventually('two servers before the load', () => replicas() === 2 || undefined, 240)
  const { failures } = await traffic.under('load', { callers: 12, steps: 1 }, () =>
    eventually('a third server', () => replicas() > 2 || undefined, 180),
  )
  expect(failures).toEqual([])
  await eventually('two servers after the load', () => replicas() === 2 || undefined, 400)
})
