/** What every engine's server promises to every client; run against real processes. */
import { request as httpRequest } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { TargetQueue } from '../../src/jobs/job.ts'
import { startHeldRuntime } from '../fakes/held-runtime.ts'
import {
  type AnyClient,
  type CallResult,
  type Connect,
  HTTP_CLIENTS,
  type Progress,
  stdioClients,
} from '../support/clients.ts'
import { eventually } from '../support/eventually.ts'
import { type Engine, type Running, startServer, startSimulatedRuntime } from '../support/process.ts'
import { ERROR_META, statsOf, TINY } from '../support/requests.ts'
import { tasksContract } from './tasks.ts'

const DEADLINE_META = 'io.github.diffusers-mcp/deadlineMs'
const olderHttp = ['old SDK, 2025-11-25', 'current SDK, older era']
/** Longer than the wait budget: else a busy machine gets a handle where the picture is what is tested. */
const PATIENT = { prefer: 'wait=60' }

/** The suite for one engine: three clients over HTTP, two over stdio, REST, bad input, and the end of a process. */
export function contract(engine: Engine): void {
  let quickRuntime: Running
  let slowRuntime: Running
  let server: Running
  let env: Record<string, string>

  beforeAll(async () => {
    quickRuntime = await startSimulatedRuntime({ msPerStep: 2 })
    slowRuntime = await startSimulatedRuntime({ msPerStep: 100 })
    env = {
      LOG_LEVEL: 'info',
      WAIT_BUDGET_MS: '1500',
      // These tests send thousands of requests as one caller.
      RATE_LIMIT_PER_MINUTE: '1000000',
      RUNTIMES: JSON.stringify([
        { name: 'quick', kind: 'kserve', url: quickRuntime.url, concurrency: 4, queue: 100 },
        { name: 'slow', kind: 'kserve', url: slowRuntime.url, concurrency: 1, queue: 2 },
        { name: 'drawn', kind: 'simulated', defaults: { width: 128, height: 64 } },
        { name: 'failing', kind: 'simulated', options: { msPerStep: 50, failEvery: 1 } },
        { name: 'absent', kind: 'kserve', url: 'http://127.0.0.1:9' },
      ]),
    }
    server = await startServer(engine, env)
  })
  afterAll(async () => {
    await server?.stop()
    await Promise.all([quickRuntime?.stop(), slowRuntime?.stop()])
  })

  const slowStats = () => statsOf(slowRuntime)
  const slowIsIdle = () => eventually(async () => expect((await slowStats()).running).toBe(0))
  /** A picture from a client that takes as long as it takes: the handle is followed where the wait budget was too short. */
  const drawn = async (client: AnyClient, params: Parameters<AnyClient['callTool']>[0]) => {
    let result = await client.callTool(params)
    while (['queued', 'running'].includes(String(result.structuredContent?.state)))
      result = await client.callTool({
        name: 'get_image_job',
        arguments: { job_id: result.structuredContent?.job_id },
      })
    return result
  }
  const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
    fetch(server.url + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    })

  describe.each(Object.entries({ ...HTTP_CLIENTS, ...stdioClients(engine) }))('%s', (name, connect) => {
    let client: AnyClient
    beforeAll(async () => {
      client = await connect({ url: server.url, env })
    })
    afterAll(() => client?.close())

    test('lists the image tools with titles, annotations and both schemas', async () => {
      const { tools } = await client.listTools()
      expect(tools.map((tool) => tool.name)).toEqual([
        'generate_image',
        'get_image_job',
        'cancel_image_job',
        'list_image_models',
        'list_images',
      ])
      for (const tool of tools) {
        expect(tool.title).toBeTruthy()
        expect(tool.annotations).toMatchObject({ openWorldHint: false })
        expect(tool.inputSchema).toMatchObject({ type: 'object', additionalProperties: false })
        expect(tool.outputSchema).toMatchObject({ type: 'object' })
      }
    })

    test('answers a prompt with a picture of the asked size, a link and what made it', async () => {
      const result = await drawn(client, { name: 'generate_image', arguments: { ...TINY, seed: 7 } })
      expect(result.structuredContent).toMatchObject({
        state: 'succeeded',
        seed: 7,
        width: 64,
        height: 64,
        steps: 4,
      })
      expect(result.content.map(({ type }) => type)).toEqual(['text', 'image', 'resource_link'])
      const picture = await sharp(Buffer.from(result.content[1]?.data ?? '', 'base64')).metadata()
      expect(picture).toMatchObject({ format: 'png', width: 64, height: 64 })
    })

    test('reads the picture again as a resource', async () => {
      const made = await drawn(client, { name: 'generate_image', arguments: TINY })
      const uri = `image://${made.structuredContent?.image_id}`
      const { contents } = await client.readResource({ uri })
      expect(contents[0]?.blob).toBe(made.content[1]?.data)
      await expect(client.readResource({ uri: 'image://nothing' })).rejects.toThrow(/not found/i)
    })

    test('offers the resource template and the prompt', async () => {
      const { resourceTemplates } = await client.listResourceTemplates()
      expect(resourceTemplates).toMatchObject([{ uriTemplate: 'image://{id}' }])
      const { prompts } = await client.listPrompts()
      expect(prompts).toMatchObject([{ name: 'illustrate' }])
      const { messages } = await client.getPrompt({ name: 'illustrate', arguments: { subject: 'a fox' } })
      expect(JSON.stringify(messages)).toContain('a fox')
    })

    // Steps that come faster than they can be told are told by the last of them.
    test('reports steps in order where the caller asks for progress', async () => {
      const ask = async (name: string, args: Record<string, unknown>) => {
        const seen: Progress[] = []
        const { structuredContent } = await client.callTool(
          { name, arguments: args },
          { onprogress: (progress) => seen.push(progress) },
        )
        const values = seen.map(({ progress }) => progress)
        expect(values).toEqual([...new Set(values)].sort((a, b) => a - b))
        return { job_id: structuredContent?.job_id, messages: seen.map(({ message }) => message) }
      }
      const long = { ...TINY, num_inference_steps: 200, model: 'slow' }
      let { job_id, messages } = await ask('generate_image', long)
      while (!messages.some((message) => /^Step \d+ of 200$/.test(message ?? '')))
        ({ messages } = await ask('get_image_job', { job_id }))
      await client.callTool({ name: 'cancel_image_job', arguments: { job_id } })
      await slowIsIdle()
    })

    test('hands out a handle when the wait budget ends, and get_image_job brings the picture', async () => {
      const first = await client.callTool({
        name: 'generate_image',
        arguments: { ...TINY, model: 'slow', num_inference_steps: 25 },
      })
      expect(first.isError).toBeFalsy()
      expect(first.structuredContent).toMatchObject({ state: 'running', steps: 25 })
      let result: CallResult = first
      while (result.structuredContent?.state === 'running')
        result = await client.callTool({
          name: 'get_image_job',
          arguments: { job_id: first.structuredContent?.job_id },
        })
      expect(result.structuredContent).toMatchObject({
        state: 'succeeded',
        job_id: first.structuredContent?.job_id,
      })
      expect(result.content[1]?.type).toBe('image')
      await slowIsIdle()
    })

    test('cancel_image_job stops the runtime within a step', async () => {
      const { structuredContent } = await client.callTool({
        name: 'generate_image',
        arguments: { ...TINY, model: 'slow', num_inference_steps: 200 },
      })
      const before = await slowStats()
      const cancelled = await client.callTool({
        name: 'cancel_image_job',
        arguments: { job_id: structuredContent?.job_id },
      })
      expect(cancelled.structuredContent).toMatchObject({ state: 'cancelled' })
      await slowIsIdle()
      const after = await slowStats()
      expect(after.aborted).toBe(before.aborted + 1)
      expect(after.steps - before.steps).toBeLessThan(100)
    })

    test('a call that is given up frees the runtime', async () => {
      const own = await connect({ url: server.url, env })
      const abort = new AbortController()
      const before = await slowStats()
      const call = own.callTool(
        { name: 'generate_image', arguments: { ...TINY, model: 'slow', num_inference_steps: 200 } },
        { signal: abort.signal },
      )
      call.catch(() => {})
      await eventually(async () => expect((await slowStats()).running).toBe(1))
      abort.abort()
      await expect(call).rejects.toThrow()
      // Over stateless HTTP of the older era a cancel notification cannot reach its call; a closed stream does.
      if (olderHttp.includes(name)) await own.close()
      await slowIsIdle()
      expect((await slowStats()).aborted).toBe(before.aborted + 1)
      await own.close()
    })

    test.each<[string, Record<string, unknown>, string, RegExp]>([
      ['no prompt', {}, 'invalid_request', /prompt is missing/],
      [
        'an over-long prompt',
        { prompt: 'x'.repeat(2001) },
        'invalid_request',
        /prompt: must have at most 2000/,
      ],
      [
        'a width that is no multiple of 8',
        { ...TINY, width: 65 },
        'invalid_request',
        /width: must be a multiple of 8.*65/,
      ],
      ['a height out of range', { ...TINY, height: 4096 }, 'invalid_request', /height: must be at most 2048/],
      ['a wrong type', { ...TINY, seed: '7' }, 'invalid_request', /seed/],
      ['an unknown field', { ...TINY, sampler: 'x' }, 'invalid_request', /"sampler" is not a parameter/],
      ['an unknown model', { ...TINY, model: 'sdxl' }, 'invalid_request', /"sdxl" is not a model.*"quick"/],
      ['a runtime that is down', { ...TINY, model: 'absent' }, 'runtime_unavailable', /retry after/i],
    ])('refuses %s with a code and advice', async (_, args, code, text) => {
      const result = await client.callTool({ name: 'generate_image', arguments: args })
      expect(result).toMatchObject({ isError: true, _meta: { [ERROR_META]: { code } } })
      expect(result.content[0]?.text).toMatch(text)
      expect(result.structuredContent).toBeUndefined()
    })

    test('says not_found for a job that is not there', async () => {
      for (const tool of ['get_image_job', 'cancel_image_job']) {
        const result = await client.callTool({ name: tool, arguments: { job_id: 'nothing' } })
        expect(result._meta).toMatchObject({ [ERROR_META]: { code: 'not_found' } })
      }
    })

    test('ends a job at its deadline', async () => {
      const result = await client.callTool({
        name: 'generate_image',
        arguments: { ...TINY, model: 'slow', num_inference_steps: 100 },
        _meta: { [DEADLINE_META]: 300 },
      })
      expect(result._meta).toMatchObject({ [ERROR_META]: { code: 'deadline_exceeded' } })
      await slowIsIdle()
    })

    test('refuses an unknown tool as a protocol error', async () => {
      await expect(client.callTool({ name: 'make_coffee', arguments: {} })).rejects.toThrow(
        /no tool "make_coffee"/,
      )
    })
  })

  tasksContract(() => server.url)

  describe('REST', () => {
    test('answers with the flat shape and a link that needs nothing else', async () => {
      const response = await post('/api/images', { ...TINY, seed: 3 }, PATIENT)
      expect(response.status).toBe(200)
      const answer = (await response.json()) as Record<string, string>
      expect(answer).toMatchObject({ state: 'succeeded', seed: 3, width: 64, height: 64 })
      const picture = await fetch(answer.url as string)
      expect(picture.headers.get('content-type')).toBe('image/png')
      expect(picture.headers.get('cache-control')).toMatch(/private/)
      expect(picture.headers.get('referrer-policy')).toBe('no-referrer')
      expect(picture.headers.get('x-content-type-options')).toBe('nosniff')
      expect(await sharp(await picture.arrayBuffer()).metadata()).toMatchObject({ width: 64, height: 64 })
      const tampered = new URL(answer.url as string)
      tampered.searchParams.set('exp', '9999999999')
      expect((await fetch(tampered)).status).toBe(403)
    })

    test('answers the PNG itself by Accept: image/png; same seed, same pixels; another seed, others', async () => {
      const png = async (seed: number) => {
        const response = await post('/api/images', { ...TINY, seed }, { ...PATIENT, accept: 'image/png' })
        expect(response.headers.get('x-seed')).toBe(String(seed))
        // Deleted, so that the next one is made anew and not answered from the store.
        await fetch(`${server.url}/images/${response.headers.get('x-image-id')}`, { method: 'DELETE' })
        return await sharp(await response.arrayBuffer())
          .raw()
          .toBuffer()
      }
      expect(await png(1)).toEqual(await png(1))
      expect(await png(1)).not.toEqual(await png(2))
    })

    test('fills in the defaults of the target', async () => {
      // Once it takes no longer than the wait budget.
      await eventually(async () => {
        const answer = await (await post('/api/images', { prompt: 'a fox', model: 'drawn' })).json()
        expect(answer).toMatchObject({ state: 'succeeded', width: 128, height: 64, target: 'drawn' })
      })
    })

    // Steps that come faster than they can be told are told by the last of them, so three are waited for.
    test('streams progress by Accept: text/event-stream', async () => {
      const response = await post(
        '/api/images',
        { ...TINY, model: 'slow', num_inference_steps: 200 },
        { accept: 'text/event-stream' },
      )
      expect(response.headers.get('x-accel-buffering')).toBe('no')
      const steps: number[] = []
      let text = ''
      for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
        text += chunk
        const events = text.split('\n\n')
        text = events.pop() as string
        for (const event of events) {
          expect(event).toMatch(/^event: progress\n/)
          const { step } = JSON.parse(event.split('data: ')[1] as string)
          if (step !== undefined) steps.push(step)
        }
        if (new Set(steps).size >= 3) break
      }
      expect(steps).toEqual([...steps].sort((a, b) => a - b))
      expect(new Set(steps).size).toBeGreaterThanOrEqual(3)
      await slowIsIdle()
    })

    test('streams the result by Accept: text/event-stream', async () => {
      const response = await post('/api/images', { ...TINY, model: 'slow' }, { accept: 'text/event-stream' })
      const events = (await response.text()).split('\n\n').filter(Boolean)
      expect(events.at(-1)).toMatch(/^event: result/)
      expect(JSON.parse(events.at(-1)?.split('data: ')[1] as string)).toMatchObject({ state: 'succeeded' })
    })

    test('streams an error event when there will be no picture', async () => {
      const response = await post(
        '/api/images',
        { ...TINY, model: 'absent' },
        { accept: 'text/event-stream' },
      )
      expect(await response.text()).toMatch(/event: error\ndata: .*runtime_unavailable/)
    })

    test('a closed stream frees the runtime', async () => {
      const abort = new AbortController()
      const before = await slowStats()
      const response = await fetch(`${server.url}/api/images`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', accept: 'text/event-stream' },
        body: JSON.stringify({ ...TINY, model: 'slow', num_inference_steps: 200 }),
        signal: abort.signal,
      })
      await response.body?.getReader().read()
      await eventually(async () => expect((await slowStats()).running).toBe(1))
      abort.abort()
      await slowIsIdle()
      expect((await slowStats()).aborted).toBe(before.aborted + 1)
    })

    test('Prefer: respond-async gives a handle at once; GET follows it; DELETE cancels it in the runtime', async () => {
      const accepted = await post(
        '/api/images',
        { ...TINY, model: 'slow', num_inference_steps: 200 },
        { prefer: 'respond-async' },
      )
      expect(accepted.status).toBe(202)
      const job = new URL(accepted.headers.get('location') as string, server.url)
      await eventually(async () =>
        expect(await (await fetch(job)).json()).toMatchObject({ state: 'running' }),
      )
      const before = await slowStats()
      const cancelled = await fetch(job, { method: 'DELETE' })
      expect(await cancelled.json()).toMatchObject({ state: 'cancelled', error: { code: 'cancelled' } })
      await slowIsIdle()
      expect((await slowStats()).aborted).toBe(before.aborted + 1)
      expect(await (await fetch(job)).json()).toMatchObject({ state: 'cancelled' })
    })

    test('Prefer: wait=N ends in a handle that another wait turns into the picture', async () => {
      const accepted = await post(
        '/api/images',
        { ...TINY, model: 'slow', num_inference_steps: 20 },
        { prefer: 'wait=0.1' },
      )
      expect(accepted.status).toBe(202)
      const job = new URL(accepted.headers.get('location') as string, server.url)
      const waited = await fetch(job, { headers: PATIENT })
      expect(await waited.json()).toMatchObject({ state: 'succeeded' })
      const followed = await fetch(job, { headers: { accept: 'text/event-stream' } })
      expect(await followed.text()).toMatch(/^event: result/)
    })

    test('a full queue is refused at once with Retry-After', async () => {
      const body = { ...TINY, model: 'slow', num_inference_steps: 200 }
      const handles = await Promise.all(
        Array.from({ length: 6 }, () => post('/api/images', body, { prefer: 'respond-async' })),
      )
      expect(handles.map(({ status }) => status).sort()).toEqual([202, 202, 202, 503, 503, 503])
      const refused = handles.find(({ status }) => status === 503) as Response
      expect(Number(refused.headers.get('retry-after'))).toBeGreaterThanOrEqual(1)
      expect(refused.headers.get('content-type')).toBe('application/problem+json')
      expect(await refused.json()).toMatchObject({
        code: 'overloaded',
        status: 503,
        retry_after_seconds: expect.any(Number),
      })
      const queue = (await (await fetch(`${server.url}/api/queue`)).json()) as { targets: unknown[] }
      expect(queue.targets).toContainEqual(
        expect.objectContaining({ target: 'slow', running: 1, queued: 2, queue_limit: 2 }),
      )
      for (const { status, headers } of handles)
        if (status === 202)
          await fetch(new URL(headers.get('location') as string, server.url), { method: 'DELETE' })
      await slowIsIdle()
    })

    test('a picture can be looked at, described and deleted', async () => {
      const made = await post('/api/images', { ...TINY, prompt: 'a red door' }, PATIENT)
      const { image_id } = (await made.json()) as { image_id: string }
      const metadata = await (await fetch(`${server.url}/images/${image_id}/metadata`)).json()
      expect(metadata).toMatchObject({ image_id, prompt: 'a red door', width: 64 })
      expect(metadata).not.toHaveProperty('owner')
      const preview = await fetch(`${server.url}/images/${image_id}?variant=preview`)
      expect(preview.headers.get('content-type')).toBe('image/webp')
      expect((await fetch(`${server.url}/images/${image_id}`, { method: 'DELETE' })).status).toBe(204)
      expect((await fetch(`${server.url}/images/${image_id}`)).status).toBe(404)
    })

    test('tools are listed and executed', async () => {
      const { tools } = (await (await post('/api/tools/list', {})).json()) as { tools: { name: string }[] }
      expect(tools.map(({ name }) => name)).toContain('generate_image')
      // Once it takes no longer than the wait budget.
      await eventually(async () => {
        const run = await post('/api/tools/execute', { tool: 'generate_image', params: TINY })
        expect(await run.json()).toMatchObject({ tool: 'generate_image', data: { state: 'succeeded' } })
      })
      expect((await post('/api/tools/execute', { tool: 'nothing' })).status).toBe(404)
    })

    test('listing is off where callers cannot be told apart', async () => {
      const response = await fetch(`${server.url}/images`)
      expect(response.status).toBe(403)
      expect(await response.json()).toMatchObject({
        code: 'forbidden',
        detail: expect.stringContaining('MCP_AUTH_TOKEN'),
      })
    })

    test('1000 aborted calls leave no slot behind', async () => {
      const abortOne = async () => {
        const abort = new AbortController()
        const call = fetch(`${server.url}/api/images`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ ...TINY, num_inference_steps: 200 }),
          signal: abort.signal,
        })
        call.catch(() => {})
        await new Promise((resolve) => setTimeout(resolve, 5))
        abort.abort()
        await call.catch(() => {})
      }
      for (let round = 0; round < 50; round += 1) await Promise.all(Array.from({ length: 20 }, abortOne))
      await eventually(async () => {
        const { targets } = (await (await fetch(`${server.url}/api/queue`)).json()) as {
          targets: Record<string, unknown>[]
        }
        expect(targets[0]).toMatchObject({ target: 'quick', running: 0, queued: 0 })
      })
      expect((await post('/api/images', TINY, PATIENT)).status).toBe(200)
    })
  })

  describe('once', () => {
    const key = () => ({ ...PATIENT, 'idempotency-key': crypto.randomUUID() })

    test('the same key 50 times in parallel: one picture, 50 equal answers', async () => {
      const headers = key()
      const answers = await Promise.all(Array.from({ length: 50 }, () => post('/api/images', TINY, headers)))
      const bodies = await Promise.all(
        answers.map((answer) => answer.json() as Promise<{ image_id: string }>),
      )
      expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]))
      expect(new Set(bodies.map(({ image_id }) => image_id)).size).toBe(1)
    })

    test('another request under the same key is a conflict, and a bad key is refused', async () => {
      const headers = key()
      await post('/api/images', TINY, headers)
      const conflict = await post('/api/images', { ...TINY, width: 128 }, headers)
      expect(conflict.status).toBe(409)
      expect(await conflict.json()).toMatchObject({ code: 'conflict' })
      expect((await post('/api/images', TINY, { 'idempotency-key': 'two words' })).status).toBe(400)
    })

    test('retries of accepted work are never refused, however full the queue', async () => {
      const headers = { ...key(), prefer: 'respond-async' }
      const body = { ...TINY, model: 'slow', num_inference_steps: 200 }
      const first = await post('/api/images', body, headers)
      const others = await Promise.all(
        [1, 2, 3, 4].map(() => post('/api/images', body, { prefer: 'respond-async' })),
      )
      expect(others.map(({ status }) => status)).toContain(503)
      const retry = await post('/api/images', body, headers)
      expect(retry.headers.get('location')).toBe(first.headers.get('location'))
      for (const { headers: answered } of [first, ...others.filter(({ status }) => status === 202)])
        await fetch(new URL(answered.get('location') as string, server.url), { method: 'DELETE' })
      await slowIsIdle()
    })

    test('MCP and REST share keys', async () => {
      const { 'idempotency-key': idempotencyKey } = key()
      const client = await (HTTP_CLIENTS['current SDK, 2026-07-28'] as Connect)({ url: server.url, env })
      const made = await drawn(client, {
        name: 'generate_image',
        arguments: TINY,
        _meta: { 'io.github.diffusers-mcp/idempotencyKey': idempotencyKey },
      })
      const again = await post('/api/images', TINY, { ...PATIENT, 'idempotency-key': idempotencyKey })
      expect(await again.json()).toMatchObject({ image_id: made.structuredContent?.image_id })
      await client.close()
    })
  })

  describe('overload', () => {
    test('everything is answered: admitted and delivered, or refused with a time to come back', async () => {
      const answers = await Promise.all(
        Array.from({ length: 300 }, () => post('/api/images', { ...TINY, num_inference_steps: 20 }, PATIENT)),
      )
      const delivered = answers.filter(({ status }) => status === 200)
      const refused = answers.filter(({ status }) => status === 503)
      expect(delivered.length + refused.length).toBe(300)
      // Four slots and a queue of 100 take at least so many, whatever the machine does.
      expect(delivered.length).toBeGreaterThanOrEqual(104)
      for (const { headers } of refused) expect(Number(headers.get('retry-after'))).toBeGreaterThanOrEqual(1)
      const { targets } = (await (await fetch(`${server.url}/api/queue`)).json()) as {
        targets: TargetQueue[]
      }
      for (const { admitted, queued, running, ended } of targets)
        expect(queued + running + ended.succeeded + ended.failed + ended.cancelled + ended.expired).toBe(
          admitted,
        )
    })
  })

  describe('bad input over HTTP', () => {
    const problem = async (response: Response) => (await response.json()) as { code: string; detail: string }

    test.each([
      ['malformed JSON', '{"prompt": ', {}, 400, 'invalid_request', /not valid JSON/],
      ['NaN', '{"prompt":"a","guidance_scale":NaN}', {}, 400, 'invalid_request', /not valid JSON/],
      ['an array', '[]', {}, 400, 'invalid_request', /object/],
      ['nested brackets', `{"prompt":${'['.repeat(20_000)}`, {}, 400, 'invalid_request', /deeper than/],
      ['a body over the limit', `{"prompt":"${'x'.repeat(70_000)}"}`, {}, 413, 'too_large', /MAX_BODY_BYTES/],
      [
        'another content type',
        'prompt=a',
        { 'content-type': 'text/plain' },
        415,
        'unsupported_media_type',
        /application\/json/,
      ],
      [
        'a foreign Origin',
        '{"prompt":"a"}',
        { origin: 'https://evil.example' },
        403,
        'forbidden',
        /ALLOWED_ORIGINS/,
      ],
      [
        'a wait that is no number',
        '{"prompt":"a"}',
        { prefer: 'wait=soon' },
        400,
        'invalid_request',
        /Prefer: wait/,
      ],
      [
        'a time-out that is no number',
        '{"prompt":"a"}',
        { 'x-request-timeout': '1e9' },
        400,
        'invalid_request',
        /X-Request-Timeout/,
      ],
    ])('%s', async (_, body, headers, status, code, detail) => {
      const response = await post('/api/images', body, headers as Record<string, string>)
      expect(response.status).toBe(status)
      expect(response.headers.get('content-type')).toBe('application/problem+json')
      const answer = await problem(response)
      expect(answer.code).toBe(code)
      expect(answer.detail).toMatch(detail)
    })

    test('a foreign Host is refused (DNS rebinding)', async () => {
      const status = await new Promise((resolve, reject) => {
        httpRequest(`${server.url}/api/queue`, { headers: { host: 'evil.example' } }, (response) => {
          response.resume()
          resolve(response.statusCode)
        })
          .on('error', reject)
          .end()
      })
      expect(status).toBe(403)
    })

    test('a streamed body over the limit is refused too', async () => {
      const chunk = new TextEncoder().encode(' '.repeat(16_384))
      let sent = 0
      const body = new ReadableStream<Uint8Array>({
        pull(controller) {
          sent += 1
          if (sent > 64) controller.close()
          else controller.enqueue(chunk)
        },
      })
      const response = await fetch(`${server.url}/api/images`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body,
        duplex: 'half',
      } as RequestInit).catch((error) => error)
      if (response instanceof Response) expect(response.status).toBe(413)
      expect((await post('/api/images', TINY, PATIENT)).status).toBe(200)
    })

    test('unknown paths and methods say what is there', async () => {
      expect((await fetch(`${server.url}/nothing`)).status).toBe(404)
      const wrong = await fetch(`${server.url}/api/images`, { method: 'DELETE' })
      expect(wrong.status).toBe(405)
      expect(wrong.headers.get('allow')).toBe('POST')
      expect((await fetch(`${server.url}/mcp`)).status).toBe(405)
    })

    test('/mcp refuses batches, bombs and big bodies as JSON-RPC errors', async () => {
      const call = { jsonrpc: '2.0', id: 1, method: 'tools/list' }
      const accept = { accept: 'application/json, text/event-stream' }
      const batch = await post('/mcp', [call, call], accept)
      expect(batch.status).toBe(400)
      expect(await batch.json()).toMatchObject({
        jsonrpc: '2.0',
        error: { message: expect.stringContaining('batches') },
      })
      expect((await post('/mcp', '['.repeat(60_000), accept)).status).toBe(400)
      expect((await post('/mcp', { ...call, pad: 'x'.repeat(70_000) }, accept)).status).toBe(413)
      expect((await post('/mcp', call, { ...accept, 'content-type': 'text/plain' })).status).toBe(415)
    })
  })

  describe('for operators', () => {
    test('/health answers, /ready tells each dependency, /metrics is Prometheus text', async () => {
      expect(await (await fetch(`${server.url}/health`)).json()).toMatchObject({ status: 'ok' })
      // A dependency that answered late counts as down until it is asked again.
      await eventually(async () => {
        const ready = await fetch(`${server.url}/ready`)
        expect(ready.status).toBe(200)
        expect(await ready.json()).toMatchObject({
          status: 'ready',
          dependencies: {
            'runtime:quick': { ok: true },
            'runtime:absent': { ok: false, message: expect.any(String) },
          },
        })
      })
      const metrics = await (await fetch(`${server.url}/metrics`)).text()
      expect(metrics).toMatch(/diffusers_mcp_jobs_total\{target="quick",state="succeeded"\} \d+/)
      expect(metrics).toMatch(
        /diffusers_mcp_http_requests_total\{route="\/api\/images",method="POST",status="200"\}/,
      )
      expect(metrics).toMatch(/diffusers_mcp_jobs_refused_total\{target="slow",reason="overloaded"\} \d+/)
      expect(metrics).toMatch(/diffusers_mcp_jobs_refused_total\{target="quick",reason="conflict"\} \d+/)
      expect(metrics).toMatch(/diffusers_mcp_job_estimate_seconds\{target="quick"\} (?!0$)\d/m)
      expect(metrics).toMatch(/diffusers_mcp_job_queue_seconds_count\{target="quick"\} \d+/)
      expect(metrics).toMatch(/diffusers_mcp_job_service_seconds_count\{target="quick"\} \d+/)
      expect(metrics).toMatch(/diffusers_mcp_jobs_running\{target="slow"\} 0/)
    })

    test('no prompt and no signature appears in the log', async () => {
      await eventually(() => expect(server.log.length).toBeGreaterThan(20))
      const text = JSON.stringify(server.log)
      expect(text).toContain('sig=[redacted]')
      expect(text).not.toContain('a lighthouse')
      expect(text).not.toMatch(/sig=(?!\[redacted\])/)
    })

    test('SIGTERM: kept connections are closed while there is still time to open others', async () => {
      // Time enough for any machine; a second SIGTERM ends it.
      const stopping = await startServer(engine, { ...env, DRAIN_DELAY_MS: '600000' })
      const before = await fetch(`${stopping.url}/api/queue`)
      expect(before.headers.get('connection')).not.toBe('close')
      const code = stopping.stop()
      await eventually(async () => expect((await fetch(`${stopping.url}/ready`)).status).toBe(503))
      const after = await fetch(`${stopping.url}/api/queue`)
      expect(after.status).toBe(200)
      expect(after.headers.get('connection')).toBe('close')
      void stopping.stop()
      expect(await code).toBe(143)
    })

    test('SIGTERM: not ready, no new work, what runs is finished, exit 0', async () => {
      const runtime = await startHeldRuntime()
      const stopping = await startServer(engine, {
        ...env,
        DRAIN_DELAY_MS: '100',
        RUNTIMES: JSON.stringify([{ name: 'held', kind: 'kserve', url: runtime.url, concurrency: 1 }]),
      })
      const ask = (prefer: string) =>
        fetch(`${stopping.url}/api/images`, {
          method: 'POST',
          headers: { 'content-type': 'application/json', prefer },
          body: JSON.stringify(TINY),
        })
      const running = ask('wait=60')
      await eventually(() => expect(runtime.stats.running).toBe(1))
      const code = stopping.stop()
      await eventually(async () => expect((await fetch(`${stopping.url}/ready`)).status).toBe(503))
      await eventually(async () => {
        const late = await ask('respond-async')
        expect(late.status).toBe(503)
        expect(await late.json()).toMatchObject({ code: 'overloaded', detail: expect.stringMatching(/shut/) })
      })
      runtime.release()
      expect((await running).status).toBe(200)
      expect(await code).toBe(0)
      await runtime.stop()
    })
  })

  describe('with a token', () => {
    const token = 'a-token-for-the-contract-suite'
    let guarded: Running
    beforeAll(async () => {
      guarded = await startServer(engine, { ...env, MCP_AUTH_TOKEN: token, ORPHAN_GRACE_MS: '1000' })
    })
    afterAll(() => guarded?.stop())

    test('calls need it, probes do not', async () => {
      expect((await fetch(`${guarded.url}/health`)).status).toBe(200)
      for (const authorization of [
        '',
        'Bearer wrong-token-of-some-length',
        `Basic ${token}`,
        `Bearer ${token} x`,
      ]) {
        const response = await fetch(`${guarded.url}/api/queue`, {
          headers: authorization ? { authorization } : {},
        })
        expect(response.status).toBe(401)
        expect(response.headers.get('www-authenticate')).toMatch(/^Bearer/)
      }
      const ok = await fetch(`${guarded.url}/api/queue`, { headers: { authorization: `Bearer ${token}` } })
      expect(ok.status).toBe(200)
    })

    test('a caller that comes back within the grace finds its picture still being made', async () => {
      const runtime = await startHeldRuntime()
      const patient = await startServer(engine, {
        ...env,
        MCP_AUTH_TOKEN: token,
        ORPHAN_GRACE_MS: '600000',
        RUNTIMES: JSON.stringify([{ name: 'held', kind: 'kserve', url: runtime.url, concurrency: 2 }]),
      })
      const body = JSON.stringify(TINY)
      const headers = { 'content-type': 'application/json', authorization: `Bearer ${token}` }
      const { port } = new URL(patient.url)
      const request = httpRequest({ port, path: '/api/images', method: 'POST', headers })
      request.on('error', () => {})
      request.end(body)
      await eventually(() => expect(runtime.stats.running).toBe(1))
      // The server closes its side when it has seen that the caller left. Until then somebody waits for that job, and
      // only a key would join it.
      const gone = new Promise((resolve) => request.socket?.on('close', resolve))
      request.socket?.end()
      await gone
      await sleep(300)
      // The stream begins when it has joined.
      const again = await fetch(`${patient.url}/api/images`, {
        method: 'POST',
        headers: { ...headers, accept: 'text/event-stream' },
        body,
      })
      runtime.release()
      expect(await again.text()).toMatch(/event: result\ndata: .*"state":"succeeded"/)
      expect(runtime.stats).toMatchObject({ started: 1, aborted: 0 })
      await patient.stop()
      await runtime.stop()
    })

    test('one that does not come back frees the runtime within the grace and a step', async () => {
      const headers = { 'content-type': 'application/json', authorization: `Bearer ${token}` }
      const body = JSON.stringify({ ...TINY, model: 'slow', num_inference_steps: 200 })
      await slowIsIdle()
      const before = await slowStats()
      const abort = new AbortController()
      const call = fetch(`${guarded.url}/api/images`, { method: 'POST', headers, body, signal: abort.signal })
      call.catch(() => {})
      await eventually(async () => expect((await slowStats()).running).toBe(1))
      abort.abort()
      await slowIsIdle()
      expect((await slowStats()).aborted).toBe(before.aborted + 1)
    })

    test.each(Object.entries(HTTP_CLIENTS))(
      '%s generates and lists its pictures; the link needs no token',
      async (_, connect) => {
        const client = await connect({ url: guarded.url, token, env })
        const made = await drawn(client, { name: 'generate_image', arguments: TINY })
        const listed = await client.callTool({ name: 'list_images', arguments: { limit: 1 } })
        expect(listed.structuredContent?.images).toMatchObject([
          { image_id: made.structuredContent?.image_id },
        ])
        expect((await fetch(made.structuredContent?.url as string)).status).toBe(200)
        expect((await fetch(`${guarded.url}/images/${made.structuredContent?.image_id}`)).status).toBe(401)
        await client.close()
      },
    )
  })
}
