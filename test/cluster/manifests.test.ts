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
} from './kube.ts'

const NAMESPACE = 'test-manifests'
beforeAll(() => {
  makeNamespace(NAMESPACE)
  // Where an ExternalName Service of a scenario goes.
  makeNamespace('bolt-namespace')
})
afterAll(() => {
  removeNamespace(NAMESPACE)
  removeNamespace('bolt-namespace')
})

describe('a real API server accepts, with the CRDs of KServe, OpenShift, Prometheus and Gateway API', () => {
  test.each(Object.entries(SCENARIOS))('%s', (_, files) => {
    const values = files.flatMap((file) => ['--values', file])
    const text = helm('template', 'mcp-server', 'chart', '--namespace', NAMESPACE, ...values)
    const printed = run('kubectl', ['-n', NAMESPACE, 'apply', '--dry-run=server', '-f', '-'], { input: text })
    expect(printed.match(/server dry run/g)!.length).toBeGreaterThan(5)
  })
})

test('KServe’s own objects, as its controller makes them: Service, policy and labels of the chart fit', async () => {
  const values = ['--set', 'runtime.mode=kserve', '--set', 'runtime.name=kserved']
  helm(
    'install',
    'mcp-server',
    'chart',
    '-n',
    NAMESPACE,
    '--values',
    `${'test/cluster/values.yaml'}`,
    ...values,
  )
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
