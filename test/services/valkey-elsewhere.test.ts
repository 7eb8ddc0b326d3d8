/**
 * A server that another one could stand in for sends its callers there: while it drains, and while it cannot reach the
 * jobs. `Connection: close` moves HTTP, 1012 moves WebSockets.
 */
import { request } from 'node:http'
import { afterEach, describe, expect, test } from 'vitest'
import { startHeldRuntime } from '../fakes/held-runtime.ts'
import { eventually } from '../support/eventually.ts'
import { openPlainSocket } from '../support/plain-socket.ts'
import type { Engine, Running } from '../support/process.ts'
import { call, type Replicas, startReplicas, TOKEN } from '../support/replicas.ts'
import { findValkeyServer } from '../support/valkey.ts'

const openSocket = ({ url }: Running) =>
  openPlainSocket(`${url.replace('http', 'ws')}/ws`, {
    protocols: ['mcp', `bearer.${Buffer.from(TOKEN).toString('base64url')}`],
  })

/** What an answer says about its connection, to a client that would keep it. */
const connectionOf = ({ url }: Running) =>
  new Promise<string>((resolve, reject) => {
    const headers = { authorization: `Bearer ${TOKEN}`, connection: 'keep-alive' }
    request(`${url}/api/queue`, { headers }, (response) => {
      response.resume().on('end', () => resolve(response.headers.connection ?? ''))
    })
      .on('error', reject)
      .end()
  })

describe.skipIf(findValkeyServer() === undefined).each<Engine>(['node', 'deno'])(
  'a server on %s',
  (engine) => {
    let replicas: Replicas | undefined
    let runtime: Awaited<ReturnType<typeof startHeldRuntime>> | undefined
    const start = async () => {
      runtime = await startHeldRuntime()
      replicas = await startReplicas({
        engines: [engine],
        concurrency: 2,
        runtime,
        env: { DRAIN_MS: '60000', DRAIN_DELAY_MS: '0' },
      })
      return replicas
    }
    afterEach(async () => {
      runtime?.release()
      await replicas?.stop()
      await runtime?.stop()
    })

    test('that drains beside another one takes what comes, and sends its callers on', async () => {
      const { servers } = await start()
      const server = servers[0]!
      await call(server, '/api/images', { body: { prompt: 'long' }, headers: { prefer: 'respond-async' } })
      await eventually(() => expect(runtime!.stats.running).toBe(1))
      await replicas!.start(1, 'node')
      const idle = await openSocket(server)
      const stopped = server.stop()
      expect((await idle.closed).code).toBe(1012)
      expect(await connectionOf(server)).toMatch(/close/)
      const late = await call(server, '/api/images', { body: { prompt: 'late' } })
      expect(late).toMatchObject({ status: 202 })
      expect((await (await openSocket(server)).closed).code).toBe(1012)
      runtime!.release()
      expect(await stopped).toBe(0)
      const answer = await call(servers[1]!, `/api/jobs/${late.job_id}`, { headers: { prefer: 'wait=60' } })
      expect(answer).toMatchObject({ state: 'succeeded' })
    })

    test('that cannot reach the jobs sends its callers on, until it can again', async () => {
      const { servers, valkey } = await start()
      const server = servers[0]!
      expect(await connectionOf(server)).not.toMatch(/close/)
      const idle = await openSocket(server)
      valkey.freeze()
      expect((await idle.closed).code).toBe(1012)
      expect(await connectionOf(server)).toMatch(/close/)
      valkey.thaw()
      await eventually(async () => expect(await connectionOf(server)).not.toMatch(/close/))
    })
  },
)
