/** What a real API server says of every scenario: its own defaults, CEL rules and admission, without making anything. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { SCENARIOS } from '../chart/helm.ts'
import {
  apply,
  deployment,
  eventually,
  helm,
  kubectl,
  makeNamespace,
  removeNamespace,
  run,
  SIMULATED_RUNTIME,
  VALUES,
} from './kube.ts'

const NAMESPACE = 'test-manifests'
const DRY = 'test-manifests-dry'
beforeAll(() => {
  makeNamespace(NAMESPACE)
  makeNamespace(DRY)
  // Where an ExternalName Service of a scenario goes.
  makeNamespace('bolt-namespace')
  // What a dry run of a pod asks for, which does not make its own account first.
  apply(
    { apiVersion: 'v1', kind: 'ServiceAccount', metadata: { name: 'mcp-server', namespace: DRY } },
    { apiVersion: 'scheduling.k8s.io/v1', kind: 'PriorityClass', metadata: { name: 'service' }, value: 1000 },
  )
})
afterAll(() => {
  removeNamespace(NAMESPACE)
  removeNamespace(DRY)
  kubectl('delete', 'priorityclass', 'service')
  removeNamespace('bolt-namespace')
})

describe('a real API server accepts, with the CRDs of KServe, OpenShift, Prometheus and Gateway API', () => {
  test.each(Object.entries(SCENARIOS))('%s', (_, files) => {
    const values = files.flatMap((file) => ['--values', file])
    const text = helm('template', 'mcp-server', 'chart', '--namespace', DRY, ...values)
    const printed = run('kubectl', ['apply', '--dry-run=server', '-f', '-'], { input: text })
    expect(printed.match(/server dry run/g)!.length).toBeGreaterThan(5)
  })
})

test('KServe’s own objects, as its controller makes them: Service, policy and labels of the chart fit', async () => {
  const values = ['--set', 'runtime.mode=kserve', '--set', 'runtime.name=kserved']
  helm('install', 'mcp-server', 'chart', '-n', NAMESPACE, '--values', VALUES, ...values)
  // The Deployment of reference: named NAME-predictor, with these three labels on its pods.
  const labels = {
    app: 'isvc.kserved-predictor',
    'serving.kserve.io/inferenceservice': 'kserved',
    component: 'predictor',
  }
  apply(deployment({ namespace: NAMESPACE, name: 'kserved-predictor', labels, ...SIMULATED_RUNTIME }))
  await eventually(
    'the server is ready',
    () => kubectl('-n', NAMESPACE, 'rollout', 'status', 'deployment/mcp-server', '--timeout=10s'),
    180,
  )
  expect(helm('test', 'mcp-server', '-n', NAMESPACE, '--logs')).toContain('ok      REST: a picture')
})
