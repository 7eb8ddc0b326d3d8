import { pino } from 'pino'
import { describe, expect, test } from 'vitest'
import { z } from 'zod'
import { ANONYMOUS } from '../auth/caller.ts'
import { clientLeft } from '../errors.ts'
import { imageRequest } from '../runtimes/request.ts'
import { createMetrics } from '../telemetry/metrics.ts'
import { createToolCaller, defineTool, parseInput } from './tool.ts'

const refusal = (value: unknown) => {
  try {
    parseInput(imageRequest, value)
  } catch (error) {
    return (error as Error).message
  }
  throw new Error('expected a refusal')
}

describe('parseInput', () => {
  test('names every wrong field with what is allowed and what it got', () => {
    expect(refusal({ prompt: '', width: 65, seed: -1 })).toBe(
      'prompt: must not be empty (got ""); width: must be a multiple of 8 (got 65); seed: must be at least 0 (got -1).',
    )
  })

  test.each<[unknown, RegExp]>([
    [{}, /^prompt is missing\.$/],
    [{ prompt: 'a', sampler: 1, cfg: 2 }, /"sampler", "cfg" are not parameters here/],
    [{ prompt: 7 }, /prompt: .*expected string.*\(got 7\)/i],
    [{ prompt: 'a', guidance_scale: Number.NaN }, /guidance_scale: must be a number \(got NaN\)/],
    [{ prompt: 'a', width: 64.5 }, /width: must be a whole number of pixels/],
    [{ prompt: 'a', num_inference_steps: true }, /num_inference_steps.*\(got true\)/],
    ['text', /expected object/i],
    [null, /expected object/i],
  ])('%j', (value, message) => {
    expect(refusal(value)).toMatch(message)
  })

  test('quotes long values only in part', () => {
    expect(refusal({ prompt: 'x'.repeat(5000) }).length).toBeLessThan(200)
  })
})

describe('a tool caller', () => {
  const metrics = createMetrics()
  const definition = {
    name: 'double',
    title: 'Double',
    description: 'Doubles a number.',
    scope: 'data:read' as const,
    annotations: { readOnlyHint: true, destructiveHint: false, idempotentHint: true, openWorldHint: false },
    input: z.strictObject({ n: z.number() }),
    output: z.object({ n: z.number() }),
  }
  const tool = defineTool({
    ...definition,
    async run({ n }) {
      if (n === 13) throw new Error('private cause')
      return { structured: { n: n * 2 }, content: [{ type: 'text', text: String(n * 2) }] }
    },
  })
  const caller = createToolCaller({ tools: [tool], log: pino({ level: 'silent' }), metrics })
  const context = { caller: ANONYMOUS, signal: AbortSignal.timeout(10_000), requestId: 'r' }

  test('runs a tool by name and counts the outcome', async () => {
    expect((await caller.call('double', { n: 2 }, context)).structured).toEqual({ n: 4 })
    await expect(caller.call('double', {}, context)).rejects.toMatchObject({ code: 'invalid_request' })
    const text = await metrics.registry.metrics()
    expect(text).toContain('diffusers_mcp_tool_calls_total{tool="double",outcome="ok"} 1')
    expect(text).toContain('diffusers_mcp_tool_calls_total{tool="double",outcome="invalid_request"} 1')
  })

  test('keeps the text of an unexpected failure private', async () => {
    const failure = await caller.call('double', { n: 13 }, context).catch((error) => error)
    expect(failure).toMatchObject({ code: 'internal' })
    expect(failure.message).not.toContain('private cause')
  })

  test('counts a call whose client left as such, and every other abort as a failure', async () => {
    const lines: string[] = []
    const log = pino({ level: 'info' }, { write: (line: string) => lines.push(line) })
    const left = new AbortController()
    const aborting = defineTool({
      ...definition,
      async run(_, { signal }) {
        signal.throwIfAborted()
        throw new DOMException('This operation was aborted', 'AbortError')
      },
    })
    const counted = createMetrics()
    const caller = createToolCaller({ tools: [aborting], log, metrics: counted })
    const call = () => caller.call('double', { n: 1 }, { ...context, signal: left.signal })
    await expect(call()).rejects.toMatchObject({ code: 'internal' })
    expect(lines).toHaveLength(1)
    left.abort(clientLeft())
    await expect(call()).rejects.toMatchObject({ code: 'client_left' })
    expect(lines).toHaveLength(1)
    const text = await counted.registry.metrics()
    expect(text).toContain('diffusers_mcp_tool_calls_total{tool="double",outcome="client_left"} 1')
    expect(text).toContain('diffusers_mcp_tool_calls_total{tool="double",outcome="internal"} 1')
  })

  test('asks for the scope of the tool, before it looks at the arguments', async () => {
    const reader = { id: 'reader', scopes: new Set(['image:read'] as const) }
    await expect(caller.call('double', {}, { ...context, caller: reader })).rejects.toMatchObject({
      code: 'forbidden',
      missingScope: 'data:read',
    })
  })

  test('says which tools there are', async () => {
    await expect(caller.call('triple', {}, context)).rejects.toThrow(/no tool "triple"; there are double/)
  })

  test('lists its schemas as JSON Schema', () => {
    expect(tool.listing).toMatchObject({
      inputSchema: {
        type: 'object',
        properties: { n: { type: 'number' } },
        required: ['n'],
        additionalProperties: false,
      },
      outputSchema: { type: 'object' },
      annotations: { title: 'Double', readOnlyHint: true },
    })
  })
})
