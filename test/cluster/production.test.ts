/**
 * Production's overlay on a cluster: servers, the Python runtime on a GPU by KServe's objects, and a Valkey with a volume
 * that holds jobs and pictures.
 */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { SCENARIOS } from '../chart/helm.ts'
import { kserveDeployment, offerGpu } from './kserve.ts'
import { apply, clearNamespace, eventually, get, helm, kubectl, makeNamespace, pod, VALUES } from './kube.ts'

const NAMESPACE = 'test-production'
const RUNTIME = 'redhat-dog'
const TOKEN = 'token-of-the-production-test-0123456789'
/** A folder of the only node, on clusters that provision no volumes. */
const VOLUME = process.env.TEST_VOLUME
const STORAGE_CLASS = 'test-production'
let withdrawGpu = () => {}

const rolledOut = (what: string) => kubectl('-n', NAMESPACE, 'rollout', 'status', what, '--timeout=300s')

beforeAll(() => {
  makeNamespace(NAMESPACE)
  withdrawGpu = offerGpu()
  if (VOLUME) {
    kubectl('delete', 'persistentvolume', STORAGE_CLASS, '--ignore-not-found')
    const hostname = get('nodes').items[0].metadata.labels['kubernetes.io/hostname']
    const here = { key: 'kubernetes.io/hostname', operator: 'In', values: [hostname] }
    apply({
      apiVersion: 'v1',
      kind: 'PersistentVolume',
      metadata: { name: STORAGE_CLASS },
      spec: {
        ...{ capacity: { storage: '1Gi' }, accessModes: ['ReadWriteOnce'], storageClassName: STORAGE_CLASS },
        ...{ persistentVolumeReclaimPolicy: 'Retain', local: { path: VOLUME } },
        nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions: [here] }] } },
      },
    })
  }
  apply(
    {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: 'mcp-server-secrets', namespace: NAMESPACE },
      stringData: { MCP_AUTH_TOKEN: TOKEN, IMAGE_URL_KEY: 'signing-key-of-the-production-test-0123456789' },
    },
    pod({ namespace: NAMESPACE, name: 'client', command: ['node', '-e', 'setInterval(() => {}, 1000)'] }),
  )
  helm(
    ...['install', 'mcp-server', 'chart', '-n', NAMESPACE],
    ...SCENARIOS.prod!.flatMap((file) => ['--values', file]),
    ...['--values', VALUES, '--set', 'valkey.persistence.enabled=true', '--set', 'runtime.model.source=s3'],
    ...(VOLUME ? ['--set', `valkey.persistence.storageClass=${STORAGE_CLASS}`] : []),
  )
  const copyModel = ['cp', '-r', '/models/icons/.', '/mnt/models']
  apply(kserveDeployment({ namespace: NAMESPACE, name: RUNTIME, copyModel }))
  rolledOut(`deployment/${RUNTIME}-predictor`)
  rolledOut('deployment/mcp-server')
})
afterAll(() => {
  clearNamespace(NAMESPACE)
  if (VOLUME) kubectl('delete', 'persistentvolume', STORAGE_CLASS, '--ignore-not-found')
  withdrawGpu()
})

/** Runs JavaScript in a pod beside the servers; `call` fetches from them. Returns what it returns. */
function fromAPod<T>(body: string): T {
  const script = `const call = async (path, options = {}) => {
      const headers = { Authorization: 'Bearer ${TOKEN}', 'Content-Type': 'application/json', ...options.headers }
      const response = await fetch('http://mcp-server.${NAMESPACE}:8080' + path, { ...options, headers })
      if (!response.ok) throw new Error(path + ' answered ' + response.status + ': ' + (await response.text()))
      return response
    }
    const post = (body, headers = {}) => call('/api/images', { method: 'POST', body: JSON.stringify(body), headers })
    console.log(JSON.stringify(await (async () => { ${body} })()))`
  return JSON.parse(
    kubectl('-n', NAMESPACE, 'exec', 'client', '--', 'node', '--input-type=module', '-e', script),
  )
}

const makePictures = () =>
  fromAPod<{ made: string; sha: string; accepted: string[] }>(`
    const { createHash } = await import('node:crypto')
    const size = { width: 64, height: 64 }
    const made = (await (await post({ prompt: 'kept', seed: 1, num_inference_steps: 2, ...size })).json()).image_id
    const bytes = Buffer.from(await (await call('/images/' + made)).arrayBuffer())
    const accepted = []
    for (let seed = 2; seed < 8; seed++) {
      const body = { prompt: 'accepted', seed, num_inference_steps: 100, ...size }
      accepted.push((await (await post(body, { Prefer: 'respond-async' })).json()).job_id)
    }
    return { made, sha: createHash('sha256').update(bytes).digest('hex'), accepted }`)

test('helm test: a picture of the Python runtime, through KServe’s objects', () => {
  expect(helm('test', 'mcp-server', '-n', NAMESPACE, '--logs').match(/^ok {6}/gm)).toHaveLength(5)
})

test('the runtime has its GPU, and two servers stand in front of it', () => {
  const [runtime] = get('-n', NAMESPACE, 'pods', '-l', `serving.kserve.io/inferenceservice=${RUNTIME}`).items
  expect(runtime.spec.containers[0].resources.limits['nvidia.com/gpu']).toBe('1')
  expect(runtime.status.phase).toBe('Running')
  expect(get('-n', NAMESPACE, 'deployment', 'mcp-server').status.readyReplicas).toBe(2)
})

test('pictures and accepted jobs outlive the pod of Valkey', async () => {
  const { made, sha, accepted } = makePictures()
  kubectl('-n', NAMESPACE, 'delete', 'pod', 'mcp-server-valkey-0', '--grace-period=1')
  rolledOut('statefulset/mcp-server-valkey')
  const after = await eventually('the servers find Valkey again', () =>
    fromAPod<{ sha: string; states: string[] }>(`
      const { createHash } = await import('node:crypto')
      const bytes = Buffer.from(await (await call('/images/${made}')).arrayBuffer())
      const states = []
      for (const id of ${JSON.stringify(accepted)})
        states.push((await (await call('/api/jobs/' + id, { headers: { Prefer: 'wait=60' } })).json()).state)
      return { sha: createHash('sha256').update(bytes).digest('hex'), states }`),
  )
  expect(after.sha).toBe(sha)
  expect(after.states).toEqual(accepted.map(() => 'succeeded'))
})
