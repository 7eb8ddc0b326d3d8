/** Several server processes on one Valkey: what a caller sees while they are killed, stopped, stalled and restarted. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { type Answer, call, generate, type Replicas, startReplicas } from '../support/replicas.ts'
import { findValkeyServer } from '../support/valkey.ts'

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
const LOCK_MS = 2000

describe.skipIf(findValkeyServer() === undefined)('replicas on one Valkey', { timeout: 240_000 }, () => {
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
    beforeEach(async () => {
      replicas = await startReplicas({
        engines: ['node', 'node', 'node'],
        concurrency: CONCURRENCY,
        msPerStep: 50,
        env: { JOB_MAX_RERUNS: '1000000' },
      })
    })
    afterEach(() => replicas?.stop())

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
    const STEPS = 40
    afterEach(() => replicas?.stop())

    /** A job of four seconds that the only server runs, and a second server that could. */
    async function runningAlone(env: Record<string, string> = {}): Promise<string> {
      replicas = await startReplicas({
        engines: ['node'],
        concurrency: 1,
        msPerStep: 100,
        env: { JOB_MAX_RERUNS: '0', DRAIN_MS: '300', ...env },
      })
      const { servers } = replicas
      const { job_id } = await call(servers[0]!, '/api/images', {
        body: { prompt: 'long', num_inference_steps: STEPS },
        headers: { prefer: 'respond-async' },
      })
      await eventually(async () => expect((await replicas.stats()).running).toBe(1))
      await replicas.start(1, 'deno')
      return job_id
    }
    const finished = (id: string) =>
      call(replicas.servers[1]!, `/api/jobs/${id}`, { headers: { prefer: 'wait=60' } })

    test('a server stands still for longer than the lock: its job runs twice, the caller sees one picture', async () => {
      const job = await runningAlone({ JOB_MAX_RERUNS: '1' })
      const { child } = replicas.servers[0]!
      child.kill('SIGSTOP')
      await eventually(async () => expect((await replicas.stats()).started).toBe(2), 30_000)
      child.kill('SIGCONT')
      const ended = await finished(job)
      expect(ended).toMatchObject({ state: 'succeeded' })
      await eventually(async () => expect((await replicas.stats()).running).toBe(0), 30_000)
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
      expect(await finished(job)).toMatchObject({ state: 'succeeded' })
      expect(await replicas.stats()).toMatchObject({ started: 2, aborted: 1, finished: 1 })
    })

    test('a server that dies too often takes the job with it, which then says why', async () => {
      const job = await runningAlone()
      replicas.servers[0]!.child.kill('SIGKILL')
      const answer = await finished(job)
      expect(answer).toMatchObject({ state: 'failed', error: { code: 'runtime_failed' } })
      expect(JSON.stringify(answer)).toContain('the server that made it died')
    })
  })

  describe('with the lock that is the default', () => {
    beforeAll(async () => {
      replicas = await startReplicas({
        engines: ['node'],
        concurrency: 1,
        msPerStep: 100,
        env: { JOB_LOCK_MS: '6000' },
      })
    })
    afterAll(() => replicas?.stop())

    test('what a killed server ran is begun again within 15 s', async () => {
      const { servers } = replicas
      const { job_id } = await call(servers[0]!, '/api/images', {
        body: { prompt: 'long', num_inference_steps: 100 },
        headers: { prefer: 'respond-async' },
      })
      await eventually(async () => expect((await replicas.stats()).running).toBe(1))
      await replicas.start(1)
      const killedAt = Date.now()
      servers[0]!.child.kill('SIGKILL')
      await eventually(async () => expect((await replicas.stats()).started).toBe(2), 20_000)
      expect(Date.now() - killedAt).toBeLessThan(15_000)
      const ended = await call(servers[1]!, `/api/jobs/${job_id}`, { headers: { prefer: 'wait=60' } })
      expect(ended.state).toBe('succeeded')
    })
  })

  describe('under load', () => {
    beforeEach(async () => {
      replicas = await startReplicas({
        engines: ['node', 'deno', 'node'],
        concurrency: 6,
        msPerStep: 50,
        env: { DRAIN_DELAY_MS: '1000', DRAIN_MS: '2000' },
      })
    })
    afterEach(() => replicas?.stop())

    /** Asks for pictures, `perSecond` of them, until it is told to stop; every call's failure is kept. */
    function load({ perSecond, servers }: { perSecond: number; servers: () => readonly { url: string }[] }) {
      const failures: (Answer | Error)[] = []
      const answers: Promise<Answer>[] = []
      const ask = () => {
        const key = `load-${answers.length}`
        answers.push(generate({ servers, key, onFailure: (failure) => failures.push(failure) }))
      }
      const timer = setInterval(ask, 1000 / perSecond)
      return {
        failures,
        async finish() {
          clearInterval(timer)
          return await Promise.all(answers)
        },
      }
    }

    test('all three are restarted one after the other: no call fails', async () => {
      // As endpoints in Kubernetes: who is not ready gets no new calls, some time after it said so.
      let ready = [...replicas.servers]
      const polling = setInterval(async () => {
        const answers = await Promise.all(
          replicas.servers.map(async (server) => {
            const answer = await fetch(`${server.url}/ready`).catch(() => undefined)
            return { server, ok: answer?.status === 200 }
          }),
        )
        ready = answers.filter(({ ok }) => ok).map(({ server }) => server)
      }, 200)
      const running = load({ perSecond: 8, servers: () => ready })
      for (const index of [0, 1, 2]) {
        await sleep(1500)
        expect(await replicas.servers[index]!.stop()).toBe(0)
        await replicas.start(index)
        await sleep(500)
      }
      const answers = await running.finish()
      clearInterval(polling)
      expect(running.failures).toEqual([])
      expect(answers.length).toBeGreaterThan(30)
      await expectOnePictureEach(answers)
    })

    test('Valkey is killed and restarted on its append-only file: what was acknowledged is still there', async () => {
      const { servers, valkey } = replicas
      const running = load({ perSecond: 8, servers: () => servers })
      await sleep(3000)
      await valkey.kill()
      await sleep(1000)
      await valkey.restart()
      await sleep(3000)
      await expectOnePictureEach(await running.finish())
      for (const { log } of servers) {
        expect(log.some(({ event }) => event === 'job store is away')).toBe(true)
        expect(log.some(({ event }) => event === 'job store is back')).toBe(true)
      }
    })

    test('Valkey stands still for 30 s: new work is refused at once, no acknowledged job is lost, service resumes', async () => {
      const { servers, valkey } = replicas
      const running = load({ perSecond: 8, servers: () => servers })
      await sleep(3000)
      valkey.freeze()
      // Until the first command has gone unanswered nobody can know.
      await sleep(4000)
      const askedAt = Date.now()
      const refused = await call(servers[0]!, '/api/images', { body: { prompt: 'too early' } })
      expect(refused).toMatchObject({ status: 503, code: 'overloaded' })
      expect(Date.now() - askedAt).toBeLessThan(1000)
      await eventually(async () => expect((await fetch(`${servers[0]!.url}/ready`)).status).toBe(503))
      await sleep(26_000)
      valkey.thaw()
      await sleep(2000)
      await expectOnePictureEach(await running.finish())
      await eventually(async () => expect((await fetch(`${servers[0]!.url}/ready`)).status).toBe(200))
    })
  })
})
