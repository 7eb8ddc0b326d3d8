/** Several server processes on one Valkey: what a caller sees while they are killed, stopped, stalled and restarted. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type HeldRuntime, startHeldRuntime } from '../fakes/held-runtime.ts'
import { eventually, within } from '../support/eventually.ts'
import { type Running, startSimulatedRuntime } from '../support/process.ts'
import {
  type Answer,
  call,
  generate,
  type Replicas,
  startBalancer,
  startLoad,
  startReplicas,
} from '../support/replicas.ts'
import { findValkeyServer } from '../support/valkey.ts'

const LOCK_MS = 2000

describe.skipIf(findValkeyServer() === undefined)('replicas on one Valkey', { timeout: 300_000 }, () => {
  let replicas: Replicas

  /** Every job is there once, succeeded, with a picture of its own that any server serves. */
  async function expectOnePictureEach(answers: readonly Answer[]): Promise<void> {
    expect(answers.filter(({ state }) => state !== 'succeeded')).toEqual([])
    for (const name of ['job_id', 'image_id'] as const)
      expect(new Set(answers.map((answer) => answer[name])).size).toBe(answers.length)
    const { servers } = replicas
    for (const [index, { job_id, image_id }] of answers.entries()) {
      const server = servers[index % servers.length]!
      expect(await call(server, `/api/jobs/${job_id}`)).toMatchObject({ state: 'succeeded', image_id })
      expect((await call(server, `/images/${image_id}/metadata`)).status).toBe(200)
    }
  }

  describe('that are killed', () => {
    const CONCURRENCY = 12
    let runtime: Running
    beforeEach(async () => {
      runtime = await startSimulatedRuntime({ msPerStep: 50 })
      replicas = await startReplicas({
        engines: ['node', 'node', 'node'],
        concurrency: CONCURRENCY,
        runtime,
        env: { JOB_MAX_RERUNS: '1000000' },
      })
    })
    afterEach(async () => {
      await replicas?.stop()
      await runtime?.stop()
    })

    test('300 jobs, a kill per lock period: each of them succeeds once', async () => {
      const { servers } = replicas
      let done = false
      const alive = new Set(servers)
      const killing = (async () => {
        for (let index = 0; !done; index = (index + 1) % servers.length) {
          await sleep(LOCK_MS)
          const victim = servers[index]!
          alive.delete(victim)
          victim.child.kill('SIGKILL')
          await replicas.start(index)
          alive.add(servers[index]!)
        }
      })()
      const answers = await Promise.all(
        Array.from({ length: 300 }, (_, index) =>
          generate({ servers: () => [...alive], key: `kill-${index}` }),
        ),
      )
      done = true
      await killing
      await expectOnePictureEach(answers)
      const { peak, started } = await replicas.stats()
      // A killed process's generations may still run in the runtime while others take its jobs over.
      expect(peak).toBeLessThanOrEqual(CONCURRENCY + CONCURRENCY)
      // Otherwise nothing was ever killed half-way.
      expect(started).toBeGreaterThan(300)
    })
  })

  describe('one by one', () => {
    // The job goes on until the test ends it: no server is too slow to start meanwhile.
    let runtime: HeldRuntime
    beforeEach(async () => {
      runtime = await startHeldRuntime()
    })
    afterEach(async () => {
      await replicas?.stop()
      await runtime?.stop()
    })

    /** A job that the only server runs, and a second server that could. */
    async function runningAlone(env: Record<string, string> = {}): Promise<string> {
      replicas = await startReplicas({
        engines: ['node'],
        concurrency: 1,
        runtime,
        env: { JOB_MAX_RERUNS: '0', DRAIN_MS: '300', ...env },
      })
      const { servers } = replicas
      const { job_id } = await call(servers[0]!, '/api/images', {
        body: { prompt: 'long' },
        headers: { prefer: 'respond-async' },
      })
      await eventually(() => expect(runtime.stats.running).toBe(1))
      await replicas.start(1, 'deno')
      return job_id
    }
    const finished = (id: string) =>
      call(replicas.servers[1]!, `/api/jobs/${id}`, { headers: { prefer: 'wait=60' } })

    test('a server stands still for longer than the lock: its job runs twice, the caller sees one picture', async () => {
      const job = await runningAlone({ JOB_MAX_RERUNS: '1' })
      const { child } = replicas.servers[0]!
      child.kill('SIGSTOP')
      await eventually(() => expect(runtime.stats.started).toBe(2))
      child.kill('SIGCONT')
      runtime.release()
      const ended = await finished(job)
      expect(ended).toMatchObject({ state: 'succeeded' })
      await eventually(() => expect(runtime.stats.running).toBe(0))
      // Whichever run came first made the picture; neither server tells of another one.
      for (const server of replicas.servers)
        expect(await call(server, `/api/jobs/${job}`)).toMatchObject({
          state: 'succeeded',
          image_id: ended.image_id,
        })
      expect((await call(replicas.servers[0]!, '/images')).images).toHaveLength(1)
    })

    test('a server that stops hands its job back: another one makes the picture, and it counts as no re-run', async () => {
      const job = await runningAlone()
      expect(await replicas.servers[0]!.stop()).toBe(0)
      await eventually(() => expect(runtime.stats).toMatchObject({ started: 2, aborted: 1 }))
      runtime.release()
      expect(await finished(job)).toMatchObject({ state: 'succeeded' })
      expect(runtime.stats).toMatchObject({ started: 2, aborted: 1, finished: 1 })
    })

    test('a server that dies too often takes the job with it, which then says why', async () => {
      const job = await runningAlone()
      replicas.servers[0]!.child.kill('SIGKILL')
      const answer = await finished(job)
      expect(answer).toMatchObject({ state: 'failed', error: { code: 'runtime_failed' } })
      expect(JSON.stringify(answer)).toContain('the server that made it died')
    })

    test('what a killed server ran is begun again by another one, with the lock that is the default too', async () => {
      const job = await runningAlone({ JOB_LOCK_MS: '6000', JOB_MAX_RERUNS: '1' })
      replicas.servers[0]!.child.kill('SIGKILL')
      await eventually(() => expect(runtime.stats).toMatchObject({ started: 2, aborted: 1 }))
      runtime.release()
      expect(await finished(job)).toMatchObject({ state: 'succeeded' })
    })
  })

  describe('under load', () => {
    const CALLERS = 24
    let runtime: Running
    const start = async (env: Record<string, string> = {}) => {
      runtime = await startSimulatedRuntime({ msPerStep: 50 })
      replicas = await startReplicas({ engines: ['node', 'deno', 'node'], concurrency: 6, runtime, env })
    }
    afterEach(async () => {
      await replicas?.stop()
      await runtime?.stop()
    })

    test('all three are restarted one after the other: no call fails', async () => {
      // Longer than this machine stands still: a server refuses new calls only after nobody sends it any.
      await start({ DRAIN_DELAY_MS: '10000', DRAIN_MS: '2000' })
      const balancer = startBalancer(() => replicas.servers)
      const load = startLoad({ callers: CALLERS, servers: balancer.ready })
      for (const index of [0, 1, 2]) {
        await load.madeMore(10)
        const stopped = replicas.servers[index]!.stop()
        await balancer.sees(replicas.servers[index]!, 'not ready')
        await load.madeMore(10)
        expect(await stopped).toBe(0)
        await replicas.start(index)
        await balancer.sees(replicas.servers[index]!, 'ready')
      }
      await load.madeMore(10)
      const answers = await load.finish()
      await balancer.stop()
      expect(load.failures).toEqual([])
      expect(answers.length).toBeGreaterThan(30)
      await expectOnePictureEach(answers)
    })

    /** Resolves when every server has said so since `since`, a number of lines in each log. */
    const allSay = (event: string, since: readonly number[]) =>
      eventually(() => {
        for (const [index, { log }] of replicas.servers.entries())
          expect(log.slice(since[index]).map((line) => line.event)).toContain(event)
      })
    const linesSoFar = () => replicas.servers.map(({ log }) => log.length)

    test('Valkey is killed and restarted on its append-only file: what was acknowledged is still there', async () => {
      await start()
      const { servers, valkey } = replicas
      const load = startLoad({ callers: CALLERS, servers: () => servers })
      await load.madeMore(10)
      const before = linesSoFar()
      await valkey.kill()
      await allSay('job store is away', before)
      await valkey.restart()
      await allSay('job store is back', before)
      await load.madeMore(10)
      await expectOnePictureEach(await load.finish())
    })

    test('Valkey stands still for 30 s: new work is refused at once, no acknowledged job is lost, service resumes', async () => {
      await start()
      const { servers, valkey } = replicas
      const load = startLoad({ callers: CALLERS, servers: () => servers })
      await load.madeMore(10)
      const before = linesSoFar()
      valkey.freeze()
      const standing = sleep(30_000)
      // Until the first command has gone unanswered nobody can know.
      await allSay('job store is away', before)
      // At once: that takes less than a command that goes unanswered, COMMAND_TIMEOUT_MS of src/valkey.
      await within(1500, async () => {
        const refused = await call(servers[0]!, '/api/images', { body: { prompt: 'too early' } })
        expect(refused).toMatchObject({ status: 503, code: 'overloaded' })
      })
      await eventually(async () => expect((await fetch(`${servers[0]!.url}/ready`)).status).toBe(503))
      await standing
      valkey.thaw()
      await allSay('job store is back', before)
      await load.madeMore(10)
      await expectOnePictureEach(await load.finish())
      await eventually(async () => expect((await fetch(`${servers[0]!.url}/ready`)).status).toBe(200))
    })
  })
})
