/** KEDA and the chart's ScaledObject, with authentication on: pods come for a picture that waits, and go without work. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { draw, makeClient } from './draw.ts'
import { apply, eventually, get, helm, kubectl, makeNamespace, removeNamespace, VALUES } from './kube.ts'
import { simulatedKServe } from './simulated-kserve.ts'

const NAMESPACE = 'test-from-zero'
const RUNTIME = 'drawn'
const operators: { metadata: { namespace: string } }[] = get(
  ...['deployments', '--all-namespaces', '-l', 'app.kubernetes.io/name=keda-operator'],
).items
const keda = operators[0]?.metadata.namespace

const replicas = () => get('-n', NAMESPACE, 'deployment', `${RUNTIME}-predictor`).status.readyReplicas ?? 0

beforeAll(() => {
  if (!keda) return
  makeNamespace(NAMESPACE)
  helm(
    ...['install', 'mcp-server', 'chart', '-n', NAMESPACE, '--values', VALUES],
    ...['--set', 'runtime.mode=kserve', '--set', `runtime.name=${RUNTIME}`, '--set', 'runtime.queue=100'],
    ...['--set', 'runtime.autoscaling.enabled=true', '--set', 'runtime.autoscaling.min=0'],
    ...['--set', 'runtime.autoscaling.max=3', '--set', 'runtime.autoscaling.cooldownSeconds=10'],
    ...['--set', `networkPolicy.kedaNamespace=${keda}`],
  )
  apply(simulatedKServe({ namespace: NAMESPACE, name: RUNTIME }))
  makeClient(NAMESPACE)
})
afterAll(() => removeNamespace(NAMESPACE))

test.skipIf(!keda)('the server is ready while there is no pod', () => {
  kubectl('-n', NAMESPACE, 'rollout', 'status', 'deployment/mcp-server', '--timeout=120s')
  expect(replicas()).toBe(0)
})

test.skipIf(!keda)('a picture brings a pod, and is drawn by it', () => {
  const { job } = draw(NAMESPACE, { prompt: 'first', seed: 1, width: 64, height: 64, num_inference_steps: 5 })
  expect(job).toMatchObject({ state: 'succeeded', target: RUNTIME })
  expect(replicas()).toBeGreaterThan(0)
})

test.skipIf(!keda)('more that wait bring more, and all are gone after the last', async () => {
  const script = `const headers = { Authorization: 'Bearer ' + process.env.TOKEN, 'Content-Type': 'application/json', Prefer: 'respond-async' }
    const ids = []
    for (let seed = 0; seed < 24; seed++) {
      const body = JSON.stringify({ prompt: 'many', seed, width: 64, height: 64, num_inference_steps: 200 })
      const made = await fetch('http://mcp-server:8080/api/images', { method: 'POST', headers, body })
      if (made.status !== 202) throw new Error(made.status + await made.text())
      ids.push((await made.json()).job_id)
    }
    console.log(JSON.stringify(ids))`
  const secret = get('-n', NAMESPACE, 'secret', 'mcp-server').data.MCP_AUTH_TOKEN
  const token = Buffer.from(secret, 'base64').toString()
  const inClient = (body: string) =>
    kubectl(
      '-n',
      NAMESPACE,
      'exec',
      'client',
      '--',
      'env',
      `TOKEN=${token}`,
      'node',
      '--input-type=module',
      '-e',
      body,
    )
  const ids: string[] = JSON.parse(inClient(script))
  await eventually('three pods draw', () => replicas() === 3 || undefined, 120)
  const states = JSON.parse(
    inClient(`const headers = { Authorization: 'Bearer ' + process.env.TOKEN, Prefer: 'wait=100' }
      const states = []
      for (const id of ${JSON.stringify(ids)})
        states.push((await (await fetch('http://mcp-server:8080/api/jobs/' + id, { headers })).json()).state)
      console.log(JSON.stringify(states))`),
  )
  expect(states).toEqual(ids.map(() => 'succeeded'))
  await eventually('no pod without work', () => replicas() === 0 || undefined, 240)
})
