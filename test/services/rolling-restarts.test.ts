/**
 * Servers are replaced one after the other while callers over REST, MCP and WebSocket go on, through a balancer that
 * follows /ready and leaves open connections alone. A connection may close between two calls, and a call whose
 * connection broke is sent again under its key; but no call is refused, and every key makes one picture.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, describe, expect, test } from 'vitest'
import { MCPWebSocketClient } from '../../src/client/client.ts'
import { HTTP_CLIENTS } from '../support/clients.ts'
import { eventually } from '../support/eventually.ts'
import { type Running, startSimulatedRuntime } from '../support/process.ts'
import {
  type Balancer,
  generate,
  type Replicas,
  startBalancer,
  startReplicas,
  TOKEN,
} from '../support/replicas.ts'
import { startTcpBalancer, type TcpBalancer } from '../support/tcp-balancer.ts'
import { findValkeyServer } from '../support/valkey.ts'

/** How often all three servers are replaced. The rule was held to 20. */
const ROUNDS = Number(process.env.ROUNDS ?? 1)
const CALLERS = 4
const KEY_META = 'io.github.diffusers-mcp/idempotencyKey'
const UNFINISHED = ['queued', 'running']

interface Outcome {
  readonly key: string
  readonly state: string
  readonly imageId: string
}

/** Asks for one picture under a key; tells of every answer that is neither a picture nor a handle to one. */
type Ask = (key: string, refused: (answer: unknown) => void) => Promise<Outcome>

const asksOverRest =
  (url: string): Ask =>
  async (key, refused) => {
    const answer = await generate({
      servers: () => [{ url }],
      key,
      onFailure: (failure) => {
        if (!(failure instanceof Error)) refused(failure)
      },
    })
    return { key, state: answer.state, imageId: answer.image_id }
  }

/** A client of the SDK. It keeps its connection from picture to picture; a broken one is no answer, and is tried again. */
const asksOverMcp =
  (url: string, name: string): Ask =>
  async (key, refused) => {
    let handle: unknown
    for (;;) {
      try {
        const client = await HTTP_CLIENTS[name]!({ url, token: TOKEN, env: {} })
        try {
          for (;;) {
            const { isError, structuredContent, content } = await client.callTool(
              handle
                ? { name: 'get_image_job', arguments: { job_id: handle, wait_seconds: 5 } }
                : { name: 'generate_image', arguments: { prompt: key }, _meta: { [KEY_META]: key } },
            )
            if (isError) {
              refused(content)
              break
            }
            const { state, job_id, image_id } = structuredContent as Record<string, string>
            if (!UNFINISHED.includes(state!)) return { key, state: state!, imageId: image_id! }
            handle = job_id
          }
        } finally {
          await client.close()
        }
      } catch {
        // The connection broke.
      }
      await sleep(50)
    }
  }

/** The published client, which connects again and repeats by itself: a call of it that fails is a refusal. */
const asksOverWebSocket =
  (client: MCPWebSocketClient): Ask =>
  async (key, refused) => {
    let handle: unknown
    for (;;)
      try {
        const { data } = handle
          ? await client.executeTool('get_image_job', { job_id: handle, wait_seconds: 5 })
          : await client.executeTool('generate_image', { prompt: key }, { idempotencyKey: key })
        const { state, job_id, image_id } = data as Record<string, string>
        if (!UNFINISHED.includes(state!)) return { key, state: state!, imageId: image_id! }
        handle = job_id
      } catch (error) {
        refused(error)
        await sleep(50)
      }
  }

describe.skipIf(findValkeyServer() === undefined)('rolling restarts', () => {
  let runtime: Running | undefined
  let replicas: Replicas | undefined
  let balancer: Balancer | undefined
  let entry: TcpBalancer | undefined
  afterEach(async () => {
    await entry?.stop()
    await balancer?.stop()
    await replicas?.stop()
    await runtime?.stop()
  })

  test('no call over REST, MCP or WebSocket fails', { timeout: 300_000 * ROUNDS }, async () => {
    runtime = await startSimulatedRuntime({ msPerStep: 30 })
    // The delay is shorter than a busy machine may stand still: nothing depends on it.
    const env = { DRAIN_DELAY_MS: '300', DRAIN_MS: '20000' }
    replicas = await startReplicas({ engines: ['node', 'deno', 'node'], concurrency: 6, runtime, env })
    const { servers } = replicas
    balancer = startBalancer(() => servers)
    entry = await startTcpBalancer(balancer.ready)
    const { url } = entry

    const clients = Array.from(
      { length: CALLERS },
      () => new MCPWebSocketClient({ url: `${url.replace('http', 'ws')}/ws`, authToken: TOKEN }),
    )
    await Promise.all(clients.map((client) => client.connect()))
    const callers: Record<string, Ask[]> = {
      rest: Array.from({ length: CALLERS }, () => asksOverRest(url)),
      'mcp-old': Array.from({ length: CALLERS }, () => asksOverMcp(url, 'old SDK, 2025-11-25')),
      'mcp-new': Array.from({ length: CALLERS }, () => asksOverMcp(url, 'current SDK, 2026-07-28')),
      websocket: clients.map(asksOverWebSocket),
    }

    const refusals: unknown[] = []
    const outcomes: Outcome[] = []
    const made = (kind: string) => outcomes.filter(({ key }) => key.startsWith(`${kind}-`)).length
    let isOver = false
    const running = Promise.all(
      Object.entries(callers).flatMap(([kind, asks]) =>
        asks.map(async (ask, caller) => {
          for (let index = 0; !isOver; index += 1)
            outcomes.push(
              await ask(`${kind}-${caller}-${index}`, (answer) => refusals.push({ kind, answer })),
            )
        }),
      ),
    )
    running.catch(() => {})
    /** Resolves when every kind of caller has so many more pictures. */
    const madeMore = async (count: number) => {
      const enough = Object.keys(callers).map((kind) => [kind, made(kind) + count] as const)
      await eventually(() => {
        for (const [kind, wanted] of enough) expect(made(kind), kind).toBeGreaterThanOrEqual(wanted)
      }, 120_000)
    }

    for (let round = 0; round < ROUNDS; round += 1)
      for (const [index, server] of [...servers.entries()]) {
        await madeMore(3)
        expect(await server.stop()).toBe(0)
        await replicas.start(index)
        await balancer.sees(servers[index]!, 'ready')
      }
    await madeMore(3)
    isOver = true
    await running
    await Promise.all(clients.map((client) => client.close()))

    expect(refusals).toEqual([])
    expect(new Set(outcomes.map(({ state }) => state))).toEqual(new Set(['succeeded']))
    expect(new Set(outcomes.map(({ imageId }) => imageId)).size).toBe(outcomes.length)
  })
})
