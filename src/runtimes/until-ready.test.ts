import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createServer as createPort } from 'node:net'
import { afterEach, describe, expect, test } from 'vitest'
import { targetDefinition } from './targets.ts'
import { waitForTargets } from './until-ready.ts'

const closing: (() => void)[] = []
afterEach(() => {
  for (const close of closing.splice(0)) close()
})

/** A KServe runtime that answers the model route as given. */
async function runtime(listener: RequestListener): Promise<string> {
  const server = createServer(listener)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closing.push(
    () => server.closeAllConnections(),
    () => server.close(),
  )
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
const ready: RequestListener = (_, response) => {
  response.setHeader('Content-Type', 'application/json').end('{"name":"model","ready":true}')
}
const loading: RequestListener = (_, response) => {
  response.writeHead(503, { 'Content-Type': 'application/json' }).end('{"error":"loading"}')
}
const kserve = (url: string, name = 'tiny-sd') => targetDefinition.parse({ name, kind: 'kserve', url })

/** Time enough for every step, in milliseconds. */
const LONG_MS = 60_000

/** One attempt, unless the pause between two is made shorter than the timeout. */
async function wait(
  targets: Parameters<typeof waitForTargets>[0]['targets'],
  { timeoutMs = LONG_MS, pauseMs = LONG_MS }: { timeoutMs?: number; pauseMs?: number } = {},
) {
  const lines: string[] = []
  const isReady = await waitForTargets({ targets, timeoutMs, pauseMs, say: (line) => lines.push(line) })
  return { isReady, lines, text: lines.join('\n') }
}

describe('waiting for the targets', () => {
  test('ends when all are ready, and says so', async () => {
    const { isReady, lines } = await wait([
      kserve(await runtime(ready)),
      targetDefinition.parse({ name: 'drawn', kind: 'simulated' }),
    ])
    expect(isReady).toBe(true)
    expect(lines).toEqual([
      expect.stringMatching(/^tiny-sd: ready at http:\/\/127\.0\.0\.1:\d+ \(name, port and readiness\)$/),
      'drawn: is simulated in the server, nothing to wait for',
    ])
  })

  test('goes on until a late one is ready, and does not repeat itself', async () => {
    let asked = 0
    const url = await runtime((request, response) => (++asked < 4 ? loading : ready)(request, response))
    const { isReady, lines } = await wait([kserve(url)], { pauseMs: 20 })
    expect(isReady).toBe(true)
    expect(lines).toEqual([
      expect.stringContaining('tiny-sd: waiting, its readiness fails: '),
      expect.stringContaining('tiny-sd: ready'),
    ])
  })

  test('a model that stays away: names the step and the commands for its pods', async () => {
    const { isReady, text } = await wait([kserve(await runtime(loading))])
    expect(isReady).toBe(false)
    expect(text).toMatch(
      /its readiness fails: .+\ntiny-sd: not ready after \d+ s, giving up\.\nLook at the runtime at/,
    )
  })

  test('a closed port: says which', async () => {
    const probe = createPort()
    await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve))
    const { port } = probe.address() as AddressInfo
    await new Promise((resolve) => probe.close(resolve))
    const { isReady, text } = await wait([kserve(`http://127.0.0.1:${port}`)])
    expect(isReady).toBe(false)
    expect(text).toContain(`its port fails: no connection to port ${port} (ECONNREFUSED)`)
  })

  test('a Service that is not there: says so, with the commands to look with', async () => {
    const { isReady, text } = await wait([kserve('http://tiny-sd.default.svc.cluster.invalid:8080')])
    expect(isReady).toBe(false)
    expect(text).toContain('its name fails: tiny-sd.default.svc.cluster.invalid does not resolve')
    expect(text).toContain('There is no Service tiny-sd in namespace default')
    expect(text).toContain('kubectl -n default get service tiny-sd')
    expect(text).toContain('kubectl -n default get pods -l serving.kserve.io/inferenceservice=tiny-sd')
  })

  test('a headless Service whose pods still load: says so, with the commands for the pods', async () => {
    const { text } = await wait([kserve('http://tiny-sd-pods.default.svc.cluster.invalid:8080')])
    expect(text).toContain('No pod of the runtime is ready, and tiny-sd-pods has only ready ones')
    expect(text).toContain('kubectl -n default get service tiny-sd-pods')
    expect(text).toContain('kubectl -n default get pods -l serving.kserve.io/inferenceservice=tiny-sd ')
  })

  test('has one time for all targets, not one for each', async () => {
    const url = await runtime(loading)
    const started = performance.now()
    const { isReady, text } = await wait([kserve(url, 'a'), kserve(url, 'b')], {
      timeoutMs: 1000,
      pauseMs: 20,
    })
    expect(isReady).toBe(false)
    expect(text).not.toContain('b: ')
    expect(performance.now() - started).toBeLessThan(LONG_MS)
  })
})
