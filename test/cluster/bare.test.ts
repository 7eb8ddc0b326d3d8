/** A bare `helm install`: nothing but the chart's own values, and a server that draws by itself. */
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { parse } from 'yaml'
import { dominantColour } from '../support/colours.ts'
import { draw, makeClient } from './draw.ts'
import { get, helm, kubectl, makeNamespace, removeNamespace, VALUES } from './kube.ts'

const NAMESPACE = 'test-bare'

beforeAll(() => {
  makeNamespace(NAMESPACE)
  const { image } = parse(readFileSync(VALUES, 'utf8')).server
  helm(
    ...['install', 'mcp-server', 'chart', '--namespace', NAMESPACE],
    ...['--set-json', `server.image=${JSON.stringify(image)}`],
  )
  kubectl('-n', NAMESPACE, 'rollout', 'status', 'deployment/mcp-server', '--timeout=300s')
  makeClient(NAMESPACE)
})
afterAll(() => removeNamespace(NAMESPACE))

test.each(['red', 'blue'])('a %s car has that colour, drawn by the server itself', async (colour) => {
  const { job, png } = draw(NAMESPACE, { prompt: `a ${colour} car`, seed: 7 })
  expect(job).toMatchObject({ state: 'succeeded', target: 'icons', model: 'icons-64' })
  expect(await dominantColour(png)).toBe(colour)
})

test('helm test', () => {
  const printed = helm('test', 'mcp-server', '--namespace', NAMESPACE, '--logs')
  expect(printed.match(/^ok {6}/gm)).toHaveLength(5)
  expect(printed).not.toContain('FAILED')
})

test('after all that one server runs, in a container that was started once', () => {
  const { items } = get('-n', NAMESPACE, 'pods', '-l', 'app.kubernetes.io/component=server')
  expect(items).toHaveLength(1)
  expect(items[0].status.containerStatuses).toMatchObject([{ ready: true, restartCount: 0 }])
})
