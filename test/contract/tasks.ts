/** The Tasks extension as its own client package uses it, beside calls written by hand. */
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { createTaskSessionFromClient, resultFromTaskOutcome } from '@modelcontextprotocol/ext-tasks/client'
import { CreateTaskResultV2Schema, GetTaskResultV2Schema } from '@modelcontextprotocol/ext-tasks/core/v2'
import { describe, expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { readRpc, TINY } from '../support/requests.ts'

const TASKS = 'io.modelcontextprotocol/tasks'
const FRAMING = {
  protocolVersion: '2026-07-28',
  clientInfo: { name: 'tasks-test', version: '1' },
  clientCapabilities: { extensions: { [TASKS]: {} } },
}
const SLOW = { ...TINY, num_inference_steps: 25, model: 'slow' }

type Rpc = { id?: unknown; method?: string; params?: Record<string, unknown> }

/** The suite, for a server with the targets `quick`, `slow` (100 ms a step) and `failing` (50 ms a step, fails half-way). */
export function tasksContract(urlOf: () => string): void {
  /** One JSON-RPC request as the current era frames it; the parsed answer. */
  async function dispatch(
    request: Rpc,
  ): Promise<{ result?: Record<string, unknown>; error?: { code: number; message: string } }> {
    const { params = {} } = request
    const response = await fetch(`${urlOf()}/mcp`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        'mcp-protocol-version': FRAMING.protocolVersion,
        'mcp-method': String(request.method),
        'mcp-name': String(params.name ?? params.taskId ?? ''),
      },
      body: JSON.stringify({
        jsonrpc: '2.0',
        id: request.id ?? 1,
        method: request.method,
        params: {
          ...params,
          _meta: {
            'io.modelcontextprotocol/protocolVersion': FRAMING.protocolVersion,
            'io.modelcontextprotocol/clientInfo': FRAMING.clientInfo,
            'io.modelcontextprotocol/clientCapabilities': FRAMING.clientCapabilities,
            ...(params._meta as object),
          },
        },
      }),
    })
    return await readRpc(response)
  }
  const create = async (args: object) => {
    const { result } = await dispatch({
      method: 'tools/call',
      params: { name: 'generate_image', arguments: args },
    })
    return result
  }
  const get = async (taskId: unknown) =>
    GetTaskResultV2Schema.parse((await dispatch({ method: 'tasks/get', params: { taskId } })).result)

  describe('Tasks', () => {
    test('server/discover offers the extension', async () => {
      const { result } = await dispatch({ method: 'server/discover' })
      expect(result).toMatchObject({ capabilities: { extensions: { [TASKS]: {} } } })
    })

    test('a quick picture is answered as ever', async () => {
      // Once it takes no longer than a call waits before it becomes a task.
      await eventually(async () =>
        expect(await create({ ...SLOW, model: 'quick', num_inference_steps: 2 })).toMatchObject({
          resultType: 'complete',
          structuredContent: { state: 'succeeded' },
        }),
      )
    })

    test('one that takes longer becomes a task, which tells its steps', async () => {
      const created = CreateTaskResultV2Schema.parse(await create({ ...SLOW, num_inference_steps: 200 }))
      expect(created).toMatchObject({
        resultType: 'task',
        status: 'working',
        pollIntervalMs: expect.any(Number),
      })
      await eventually(async () =>
        expect(await get(created.taskId)).toMatchObject({
          status: 'working',
          statusMessage: expect.stringMatching(/^Step \d+ of 200/),
        }),
      )
      await dispatch({ method: 'tasks/cancel', params: { taskId: created.taskId } })
    })

    test('a task brings the picture', async () => {
      const created = CreateTaskResultV2Schema.parse(await create(SLOW))
      await eventually(async () => expect((await get(created.taskId)).status).toBe('completed'))
      expect(await get(created.taskId)).toMatchObject({
        result: {
          content: [{ type: 'text' }, { type: 'image', mimeType: 'image/png' }, { type: 'resource_link' }],
        },
      })
    })

    test('tasks/cancel ends it', async () => {
      const created = CreateTaskResultV2Schema.parse(await create({ ...SLOW, num_inference_steps: 200 }))
      expect(
        (await dispatch({ method: 'tasks/cancel', params: { taskId: created.taskId } })).result,
      ).toBeDefined()
      expect((await get(created.taskId)).status).toBe('cancelled')
    })

    test('one that fails has failed, with the reason', async () => {
      const { taskId } = CreateTaskResultV2Schema.parse(
        // Half-way is 3 s: well after a call has become a task.
        await create({ ...SLOW, model: 'failing', num_inference_steps: 120 }),
      )
      await eventually(async () => expect((await get(taskId)).status).toBe('failed'))
      expect(await get(taskId)).toMatchObject({ error: { data: { code: 'runtime_failed' } } })
    })

    test('a task that is not there, and input that nobody asked for, are errors', async () => {
      for (const method of ['tasks/get', 'tasks/cancel'])
        expect(await dispatch({ method, params: { taskId: 'nothing' } })).toMatchObject({
          error: { code: -32602 },
        })
      const created = CreateTaskResultV2Schema.parse(await create(SLOW))
      expect(
        await dispatch({ method: 'tasks/update', params: { taskId: created.taskId, inputResponses: {} } }),
      ).toMatchObject({ error: { message: expect.stringMatching(/no input/) } })
      await dispatch({ method: 'tasks/cancel', params: { taskId: created.taskId } })
    })

    test("the extension's own client gets its picture through a task", async () => {
      const client = new Client(FRAMING.clientInfo, {
        versionNegotiation: { mode: { pin: '2026-07-28' } },
        capabilities: FRAMING.clientCapabilities as never,
      })
      await client.connect(new StreamableHTTPClientTransport(new URL('/mcp', urlOf())))
      const session = createTaskSessionFromClient(client, {
        endpointId: 'test',
        rawDispatch: (async (request: Rpc) => ({
          jsonrpc: '2.0',
          id: request.id,
          ...(await dispatch(request)),
        })) as never,
        v2RequestFraming: FRAMING,
      })
      const execution = await session.callTool('generate_image', SLOW)
      const { outcome } = await execution.settle()
      expect(resultFromTaskOutcome(outcome)).toMatchObject({
        structuredContent: { state: 'succeeded', steps: 25 },
      })
      await session.close()
      await client.close()
    })
  })
}
