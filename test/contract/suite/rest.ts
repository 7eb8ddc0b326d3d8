/** REST: answers, streams, handles and the queue, and what else has a route. */
import sharp from 'sharp'
import { describe, expect, test } from 'vitest'
import { eventually } from '../../support/eventually.ts'
import { TINY } from '../../support/requests.ts'
import { PATIENT, type Suite } from './server.ts'

export function rest(suite: Suite): void {
  describe('REST', () => {
    answers(suite)
    streams(suite)
    handles(suite)
    picturesAndTools(suite)
    abortedCalls(suite)
  })
}

function answers(suite: Suite): void {
  const { post } = suite
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
}

function streams(suite: Suite): void {
  const { post, slowStats, slowIsIdle } = suite
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
    const response = await post('/api/images', { ...TINY, model: 'absent' }, { accept: 'text/event-stream' })
    expect(await response.text()).toMatch(/event: error\ndata: .*runtime_unavailable/)
  })

  test('a closed stream frees the runtime', async () => {
    const abort = new AbortController()
    const before = await slowStats()
    const response = await fetch(`${suite.server.url}/api/images`, {
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
}

function handles(suite: Suite): void {
  const { post, slowStats, slowIsIdle } = suite
  test('Prefer: respond-async gives a handle at once; GET follows it; DELETE cancels it in the runtime', async () => {
    const accepted = await post(
      '/api/images',
      { ...TINY, model: 'slow', num_inference_steps: 200 },
      { prefer: 'respond-async' },
    )
    expect(accepted.status).toBe(202)
    const job = new URL(accepted.headers.get('location') as string, suite.server.url)
    await eventually(async () => expect(await (await fetch(job)).json()).toMatchObject({ state: 'running' }))
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
    const job = new URL(accepted.headers.get('location') as string, suite.server.url)
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
    const queue = (await (await fetch(`${suite.server.url}/api/queue`)).json()) as { targets: unknown[] }
    expect(queue.targets).toContainEqual(
      expect.objectContaining({ target: 'slow', running: 1, queued: 2, queue_limit: 2 }),
    )
    for (const { status, headers } of handles)
      if (status === 202)
        await fetch(new URL(headers.get('location') as string, suite.server.url), { method: 'DELETE' })
    await slowIsIdle()
  })
}

function picturesAndTools(suite: Suite): void {
  const { post } = suite
  test('a picture can be looked at, described and deleted', async () => {
    const made = await post('/api/images', { ...TINY, prompt: 'a red door' }, PATIENT)
    const { image_id } = (await made.json()) as { image_id: string }
    const metadata = await (await fetch(`${suite.server.url}/images/${image_id}/metadata`)).json()
    expect(metadata).toMatchObject({ image_id, prompt: 'a red door', width: 64 })
    expect(metadata).not.toHaveProperty('owner')
    const preview = await fetch(`${suite.server.url}/images/${image_id}?variant=preview`)
    expect(preview.headers.get('content-type')).toBe('image/webp')
    expect((await fetch(`${suite.server.url}/images/${image_id}`, { method: 'DELETE' })).status).toBe(204)
    expect((await fetch(`${suite.server.url}/images/${image_id}`)).status).toBe(404)
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
    const response = await fetch(`${suite.server.url}/images`)
    expect(response.status).toBe(403)
    expect(await response.json()).toMatchObject({
      code: 'forbidden',
      detail: expect.stringContaining('MCP_AUTH_TOKEN'),
    })
  })
}

function abortedCalls(suite: Suite): void {
  const { post } = suite
  test('1000 aborted calls leave no slot behind', async () => {
    const abortOne = async () => {
      const abort = new AbortController()
      const call = fetch(`${suite.server.url}/api/images`, {
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
      const { targets } = (await (await fetch(`${suite.server.url}/api/queue`)).json()) as {
        targets: Record<string, unknown>[]
      }
      expect(targets[0]).toMatchObject({ target: 'quick', running: 0, queued: 0 })
    })
    expect((await post('/api/images', TINY, PATIENT)).status).toBe(200)
  })
}
