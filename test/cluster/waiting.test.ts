/** The init container on a cluster: gives up with the cause when the runtime is missing, and lets a late one in. */
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
  SIMULATED_RUNTIME,
  service,
  VALUES,
} from './kube.ts'

const NAMESPACE = 'test-waiting'
const LABELS = { 'diffusers-mcp/runtime': 'late' }

beforeAll(() => makeNamespace(NAMESPACE))
afterAll(() => removeNamespace(NAMESPACE))

const initLog = () =>
  kubectl('-n', NAMESPACE, 'logs', 'deployment/mcp-server', '-c', 'wait-for-runtime', '--tail=50')

test('a runtime that is missing: the init container gives up in time, and its log names cause and commands', async () => {
  helm(
    ...['install', 'mcp-server', 'chart', '--namespace', NAMESPACE, '--values', VALUES],
    ...[
      '--set',
      'runtime.mode=external',
      '--set',
      'runtime.name=late',
      '--set',
      'server.wait.timeoutSeconds=6',
    ],
  )
  const ended = await eventually('the init container fails', () => {
    const [pod] = get('-n', NAMESPACE, 'pods', '-l', 'app.kubernetes.io/component=server').items
    const [status] = pod?.status.initContainerStatuses ?? []
    return status?.state.terminated ?? status?.lastState.terminated
  })
  expect(ended.exitCode).toBe(1)
  const took = Date.parse(ended.finishedAt) - Date.parse(ended.startedAt)
  expect(took).toBeGreaterThan(2_000)
  expect(took).toBeLessThan(40_000)
  const log = await eventually('its log', () => (initLog().includes('giving up') ? initLog() : undefined))
  expect(log).toContain(`late.${NAMESPACE}.svc.cluster.local does not resolve`)
  expect(log).toContain(`There is no Service late in namespace ${NAMESPACE}`)
  expect(log).toContain(`kubectl -n ${NAMESPACE} get service late`)
  expect(log).toContain('serving.kserve.io/inferenceservice=late')
})

test('a runtime that comes late: the pod becomes ready by itself', async () => {
  apply(
    deployment({ namespace: NAMESPACE, name: 'late', labels: LABELS, ...SIMULATED_RUNTIME }),
    service({ namespace: NAMESPACE, name: 'late', port: 8080, selector: LABELS }),
  )
  kubectl('-n', NAMESPACE, 'rollout', 'status', 'deployment/mcp-server', '--timeout=240s')
  expect(initLog()).toContain('late: ready at')
  expect(helm('test', 'mcp-server', '--namespace', NAMESPACE, '--logs')).toContain('ok      REST: a picture')
})
