/**
 * Attacks by jobs, at full size. One token has jobs with the longest prompts admitted and cancels them, as fast as it can:
 * what others have stays, and their new work is taken, made and kept. Or it has tiny pictures made, so that the server
 * should think that large ones take an hour.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { type Engine, type Running, startServer } from '../support/process.ts'
import { findValkeyServer, startValkey, type ValkeyServer } from '../support/valkey.ts'

const ALICE = 'alice-alice-alice-alice-alice'
const BOB = 'bob-bob-bob-bob-bob-bob-bob'
const SCOPES = ['image:generate', 'image:read']
const TOKENS = JSON.stringify([
  { name: 'alice', token: ALICE, scopes: SCOPES },
  { name: 'bob', token: BOB, scopes: SCOPES },
])
const RUNTIMES = JSON.stringify([
  { name: 'gpu', kind: 'simulated', concurrency: 2, queue: 100, queuePerCaller: 50 },
])
/** Three times what is left in Valkey, or in the heap, if each of them kept its 27 KB. */
const JOBS = 2000
const AT_ONCE = 20
const MINUTE_MS = 60_000

let directory: string
let server: Running
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'attacks-'))
})
afterAll(() => rm(directory, { recursive: true }))
afterEach(() => server?.stop())

async function ask(
  method: string,
  path: string,
  token: string,
  more: { body?: object; prefer?: string } = {},
) {
  const { body, prefer } = more
  const answer = await fetch(server.url + path, {
    method,
    headers: {
      Authorization: `Bearer ${token}`,
      ...(body ? { 'Content-Type': 'application/json' } : {}),
      ...(prefer ? { Prefer: prefer } : {}),
    },
    ...(body ? { body: JSON.stringify(body) } : {}),
  })
  return { status: answer.status, json: await answer.json().catch(() => undefined) }
}
const draw = (token: string, body: object, prefer: string) =>
  ask('POST', '/api/images', token, { body, prefer })

/** Has jobs admitted and cancelled; returns how many. */
async function flood(prompt: string): Promise<number> {
  let left = JOBS
  let cancelled = 0
  const body = { prompt, negative_prompt: prompt, num_inference_steps: 200 }
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      while (left-- > 0) {
        const { json } = await draw(ALICE, body, 'respond-async')
        const ended = await ask('DELETE', `/api/jobs/${json.job_id}`, ALICE)
        if (ended.json.state === 'cancelled') cancelled += 1
      }
    }),
  )
  return cancelled
}

async function attack(prompt: string): Promise<void> {
  const before = await draw(BOB, { prompt: 'a fox', num_inference_steps: 2 }, 'wait=60')
  expect(before).toMatchObject({ status: 200, json: { state: 'succeeded', prompt: 'a fox' } })
  expect(await flood(prompt)).toBe(JOBS)
  expect((await fetch(`${server.url}/ready`)).status).toBe(200)
  const after = await draw(BOB, { prompt: 'a bear', num_inference_steps: 2 }, 'wait=60')
  expect(after).toMatchObject({ status: 200, json: { state: 'succeeded' } })
  for (const { json } of [before, after]) {
    expect(await ask('GET', `/api/jobs/${json.job_id}`, BOB)).toMatchObject({
      status: 200,
      json: { state: 'succeeded', image_id: json.image_id, prompt: json.prompt },
    })
    expect((await fetch(json.url)).status).toBe(200)
  }
}

const env = () => ({
  ...{ AUTH_TOKENS: TOKENS, RUNTIMES, RATE_LIMIT_PER_MINUTE: '0' },
  ...{ IMAGES_BACKEND: 'filesystem', IMAGES_DIR: directory, IMAGE_URL_KEY: 'k'.repeat(32) },
})

describe.each<Engine>(['node', 'deno'])('on %s', (engine) => {
  describe.skipIf(findValkeyServer() === undefined)('jobs in Valkey that are cancelled', () => {
    let valkey: ValkeyServer
    beforeAll(async () => {
      valkey = await startValkey({ maxmemory: '22mb' })
    })
    afterAll(() => valkey?.stop())

    test('leave room for those of others', { timeout: 5 * MINUTE_MS }, async () => {
      server = await startServer(engine, { ...env(), JOBS_BACKEND: 'valkey', VALKEY_URL: valkey.url })
      await attack('\u0001'.repeat(1990))
      const metrics = await (await fetch(`${server.url}/metrics`)).text()
      expect(metrics).toMatch(/^diffusers_mcp_job_store_max_bytes 23068672$/m)
      const [, used] = /^diffusers_mcp_job_store_used_bytes (\d+)$/m.exec(metrics) ?? []
      expect(Number(used)).toBeLessThan(12 * 2 ** 20)
    })
  })

  describe('jobs in memory that are cancelled', () => {
    test('leave room for those of others', { timeout: 5 * MINUTE_MS }, async () => {
      const limit = '--max-old-space-size=90'
      server = await startServer(engine, { ...env(), NODE_OPTIONS: limit, DENO_V8_FLAGS: limit })
      await attack('狐'.repeat(2000))
    })
  })

  describe('72 tiny pictures of one caller', () => {
    test('teach nothing that refuses large ones of another', async () => {
      // What a picture takes is not its pixels times its steps: most of it is the same for each.
      const runtimes = [{ name: 'gpu', kind: 'simulated', options: { msPerStep: 20 }, queue: 100 }]
      server = await startServer(engine, { ...env(), RUNTIMES: JSON.stringify(runtimes) })
      for (let width = 64; width <= 120; width += 8)
        for (let height = 64; height <= 128; height += 8) {
          const tiny = { prompt: 't', width, height, num_inference_steps: 1 }
          expect(await draw(ALICE, tiny, 'wait=60')).toMatchObject({ status: 200 })
        }
      const large = { prompt: 'x', width: 2048, height: 2048, num_inference_steps: 20 }
      expect(await draw(BOB, large, 'wait=60')).toMatchObject({ status: 200, json: { state: 'succeeded' } })
    })
  })
})
