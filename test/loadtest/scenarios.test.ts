/** Every scenario of loadtest/, in a short form: it passes against the server, and fails where it should. */
import { describe, expect, test } from 'vitest'
import { runLocally, type Settings } from '../../loadtest/runner/k6.ts'
import type { Lines } from '../../loadtest/runner/lines.ts'
import { startLocalServers } from '../../loadtest/runner/local-servers.ts'
import { type Flaw, startFlawedProxy } from '../fakes/flawed-proxy.ts'

const TARGET = { concurrency: 2, queue: 10, serviceMs: 500 }
/** Short phases, and no bounds of time, which a busy machine would not keep: what is answered is looked at, not when. */
const SHORT = {
  CAPACITY_PER_SECOND: '4',
  PLACES: '12',
  PHASE_SECONDS: '4',
  TIMEOUT_SECONDS: '30',
  TIME_SLACK: '1000',
}

const crossed = ({ verdict = [] }: Lines) => verdict.flatMap(({ ok, metric }) => (ok ? [] : [metric]))
const count = ({ calls }: Lines, state: string) => calls.filter((call) => call.state === state).length

describe('against the server', () => {
  test.concurrent.each([
    ['smoke', { PHASE_SECONDS: '8' }],
    ['load', {}],
    ['stress', {}],
    ['spike', {}],
    ['soak', {}],
    ['websocket', { PHASE_SECONDS: '10' }],
    ['mixed', { PHASE_SECONDS: '8' }],
  ])('%s passes', async (scenario, settings) => {
    const server = await startLocalServers({ ...TARGET, replicas: 1, data: scenario === 'mixed' })
    try {
      const lines = await runLocally(scenario, { ...SHORT, BASE_URL: server.urls.join(), ...settings })
      expect(lines.calls.filter(({ state }) => state === 'failed')).toEqual([])
      expect(crossed(lines)).toEqual([])
      expect(lines.verdict?.length).toBeGreaterThan(7)
      expect(lines.samples.length).toBeGreaterThan(2)
      const overloads = ['stress', 'spike', 'websocket', 'mixed'].includes(scenario)
      if (overloads) expect(count(lines, 'refused')).toBeGreaterThan(0)
      const interfaces = new Set(lines.calls.map(({ call }) => call))
      if (scenario === 'smoke') expect(interfaces.size).toBe(5)
      if (scenario === 'mixed')
        expect([...interfaces]).toEqual(expect.arrayContaining(['trino', 'xdp', 'mcp']))
    } finally {
      await server.stop()
    }
  })
})

describe('against a server with a flaw', () => {
  async function runBehind(flaw: Flaw, scenario: string, settings: Settings = {}): Promise<Lines> {
    const server = await startLocalServers({ ...TARGET, replicas: 1, data: false })
    const proxy = await startFlawedProxy({ url: server.urls[0] as string, flaw })
    try {
      // The proxy speaks plain HTTP.
      const MIX = 'rest=50,mcp=25,mcp-2025=25'
      return await runLocally(scenario, { ...SHORT, BASE_URL: proxy.url, MIX, ...settings })
    } finally {
      await proxy.stop()
      await server.stop()
    }
  }

  test.concurrent('smoke fails where calls are dropped', async () => {
    const lines = await runBehind('drops calls', 'smoke', { PHASE_SECONDS: '6' })
    expect(crossed(lines)).toContain('failures')
    expect(lines.calls.filter(({ state }) => state === 'failed').map(({ why }) => why)).toContainEqual(
      expect.stringMatching(/no answer|initialize/),
    )
  })

  test.concurrent('spike fails where errors are answered as HTTP 200', async () => {
    const lines = await runBehind('errors as 200', 'spike')
    expect(crossed(lines)).toEqual(expect.arrayContaining(['failures', 'refused{scenario:spike}']))
  })

  test.concurrent('spike fails where there is no admission control', async () => {
    const lines = await runBehind('no admission', 'spike', { MAX_VUS: '30' })
    expect(crossed(lines)).toEqual(expect.arrayContaining(['refused{scenario:spike}', 'dropped_iterations']))
    expect(count(lines, 'refused')).toBe(0)
  })
})
