/** Every MCP client, over HTTP and stdio: what it is offered, pictures, leaving, refusals. */
import sharp from 'sharp'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import {
  type AnyClient,
  type CallResult,
  type Connect,
  drawn,
  HTTP_CLIENTS,
  type Progress,
  stdioClients,
} from '../../support/clients.ts'
import { eventually } from '../../support/eventually.ts'
import { ERROR_META, TINY } from '../../support/requests.ts'
import type { Suite } from './server.ts'

const DEADLINE_META = 'io.github.diffusers-mcp/deadlineMs'
const olderHttp = ['old SDK, 2025-11-25', 'current SDK, older era']

/** One kind of client, connected to the server. */
interface Connected {
  readonly name: string
  readonly connect: Connect
  readonly client: AnyClient
}

export function mcpClients(suite: Suite): void {
  const clients = { ...HTTP_CLIENTS, ...stdioClients(suite.engine) }
  describe.each(Object.entries(clients))('%s', (name, connect) => {
    let client: AnyClient
    beforeAll(async () => {
      client = await connect({ url: suite.server.url, env: suite.env })
    })
    afterAll(() => client?.close())

    const mcp: Connected = {
      name,
      connect,
      get client() {
        return client
      },
    }
    pictures(suite, mcp)
    leaving(suite, mcp)
    refusals(suite, mcp)
  })
}

function pictures({ slowIsIdle }: Suite, mcp: Connected): void {
  test('lists the image tools with titles, annotations and both schemas', async () => {
    const { tools } = await mcp.client.listTools()
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
    const result = await drawn(mcp.client, { name: 'generate_image', arguments: { ...TINY, seed: 7 } })
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
    const made = await drawn(mcp.client, { name: 'generate_image', arguments: TINY })
    const uri = `image://${made.structuredContent?.image_id}`
    const { contents } = await mcp.client.readResource({ uri })
    expect(contents[0]?.blob).toBe(made.content[1]?.data)
    await expect(mcp.client.readResource({ uri: 'image://nothing' })).rejects.toThrow(/not found/i)
  })

  test('offers the resource template and the prompt', async () => {
    const { resourceTemplates } = await mcp.client.listResourceTemplates()
    expect(resourceTemplates).toMatchObject([{ uriTemplate: 'image://{id}' }])
    const { prompts } = await mcp.client.listPrompts()
    expect(prompts).toMatchObject([{ name: 'illustrate' }])
    const { messages } = await mcp.client.getPrompt({ name: 'illustrate', arguments: { subject: 'a fox' } })
    expect(JSON.stringify(messages)).toContain('a fox')
  })

  // Steps that come faster than they can be told are told by the last of them.
  test('reports steps in order where the caller asks for progress', async () => {
    const ask = async (name: string, args: Record<string, unknown>) => {
      const seen: Progress[] = []
      const { structuredContent } = await mcp.client.callTool(
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
    await mcp.client.callTool({ name: 'cancel_image_job', arguments: { job_id } })
    await slowIsIdle()
  })

  test('hands out a handle when the wait budget ends, and get_image_job brings the picture', async () => {
    const first = await mcp.client.callTool({
      name: 'generate_image',
      arguments: { ...TINY, model: 'slow', num_inference_steps: 25 },
    })
    expect(first.isError).toBeFalsy()
    expect(first.structuredContent).toMatchObject({ state: 'running', steps: 25 })
    let result: CallResult = first
    while (result.structuredContent?.state === 'running')
      result = await mcp.client.callTool({
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
}

function leaving(suite: Suite, mcp: Connected): void {
  const { slowStats, slowIsIdle } = suite
  test('cancel_image_job stops the runtime within a step', async () => {
    const { structuredContent } = await mcp.client.callTool({
      name: 'generate_image',
      arguments: { ...TINY, model: 'slow', num_inference_steps: 200 },
    })
    const before = await slowStats()
    const cancelled = await mcp.client.callTool({
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
    const own = await mcp.connect(suite.patient)
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
    if (olderHttp.includes(mcp.name)) await own.close()
    await slowIsIdle()
    expect((await slowStats()).aborted).toBe(before.aborted + 1)
    await own.close()
  })
}

function refusals({ slowIsIdle }: Suite, mcp: Connected): void {
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
    const result = await mcp.client.callTool({ name: 'generate_image', arguments: args })
    expect(result).toMatchObject({ isError: true, _meta: { [ERROR_META]: { code } } })
    expect(result.content[0]?.text).toMatch(text)
    expect(result.structuredContent).toBeUndefined()
  })

  test('says not_found for a job that is not there', async () => {
    for (const tool of ['get_image_job', 'cancel_image_job']) {
      const result = await mcp.client.callTool({ name: tool, arguments: { job_id: 'nothing' } })
      expect(result._meta).toMatchObject({ [ERROR_META]: { code: 'not_found' } })
    }
  })

  test('ends a job at its deadline', async () => {
    const result = await mcp.client.callTool({
      name: 'generate_image',
      arguments: { ...TINY, model: 'slow', num_inference_steps: 100 },
      _meta: { [DEADLINE_META]: 300 },
    })
    expect(result._meta).toMatchObject({ [ERROR_META]: { code: 'deadline_exceeded' } })
    await slowIsIdle()
  })

  test('refuses an unknown tool as a protocol error', async () => {
    await expect(mcp.client.callTool({ name: 'make_coffee', arguments: {} })).rejects.toThrow(
      /no tool "make_coffee"/,
    )
  })
}
