/** A bare `helm install`: nothing but the chart's own values, and a server that draws by itself. */
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { parse } from 'yaml'
import { dominantColour } from '../support/colours.ts'
import { apply, get, helm, kubectl, makeNamespace, pod, removeNamespace, VALUES } from './kube.ts'

const NAMESPACE = 'test-bare'

beforeAll(() => {
  makeNamespace(NAMESPACE)
  apply(pod({ namespace: NAMESPACE, name: 'client', command: ['node', '-e', 'setInterval(() => {}, 1000)'] }))
  const { image } = parse(readFileSync(VALUES, 'utf8')).server
  helm(
    ...['install', 'mcp-server', 'chart', '--namespace', NAMESPACE],
    ...['--set-json', `server.image=${JSON.stringify(image)}`],
  )
  kubectl('-n', NAMESPACE, 'rollout', 'status', 'deployment/mcp-server', '--timeout=300s')
  kubectl('-n', NAMESPACE, 'wait', '--for=condition=Ready', 'pod/client', '--timeout=120s')
})
afterAll(() => removeNamespace(NAMESPACE))

/** Asks for a picture from a pod beside the server, and returns it with what the server says of it. */
function draw(prompt: string): { job: object; png: Buffer } {
  const secret = get('-n', NAMESPACE, 'secret', 'mcp-server')
  const token = Buffer.from(secret.data.MCP_AUTH_TOKEN, 'base64').toString()
  const script = `
    const base = 'http://mcp-server.${NAMESPACE}:8080'
    const headers = { Authorization: 'Bearer ${token}', 'Content-Type': 'application/json' }
    const body = JSON.stringify({ prompt: '${prompt}', seed: 7 })
    const made = await fetch(base + '/api/images', { method: 'POST', headers, body })
    const job = await made.json()
    if (!made.ok) throw new Error(JSON.stringify(job))
    const png = Buffer.from(await (await fetch(base + '/images/' + job.image_id, { headers })).arrayBuffer())
    console.log(JSON.stringify({ job, png: png.toString('base64') }))`
  const printed = kubectl(
    ...['-n', NAMESPACE, 'exec', 'client', '--', 'node', '--input-type=module', '-e', script],
  )
  const { job, png } = JSON.parse(printed)
  return { job, png: Buffer.from(png, 'base64') }
}

test('nothing but the server runs, and no container of it was started twice', () => {
  const { items } = get('-n', NAMESPACE, 'pods', '-l', 'app.kubernetes.io/instance=mcp-server')
  expect(items).toHaveLength(1)
  expect(items[0].status.containerStatuses).toMatchObject([{ ready: true, restartCount: 0 }])
})

test.each(['red', 'blue'])('a %s car is %s, and the model in the server drew it', async (colour) => {
  const { job, png } = draw(`a ${colour} car`)
  expect(job).toMatchObject({ state: 'succeeded', target: 'icons', model: 'icons-64' })
  expect(await dominantColour(png)).toBe(colour)
})

test('helm test', () => {
  const printed = helm('test', 'mcp-server', '--namespace', NAMESPACE, '--logs')
  expect(printed.match(/^ok {6}/gm)).toHaveLength(5)
  expect(printed).not.toContain('FAILED')
})
