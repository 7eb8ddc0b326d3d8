/**
 * The tools, resources and prompts that the scenarios of `@modelcontextprotocol/conformance` ask for by name; each
 * scenario's description there is the source of what its fixture does. A test entry serves them through the product's
 * own middleware and transports.
 */
import { randomBytes } from 'node:crypto'
import {
  CLIENT_CAPABILITIES_META_KEY,
  createRequestStateCodec,
  inputRequired,
  LOG_LEVEL_META_KEY,
  MissingRequiredClientCapabilityError,
  ProtocolError,
  ProtocolErrorCode,
  ResourceNotFoundError,
  Server,
  type ServerContext,
} from '@modelcontextprotocol/server'

const PIXEL = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=='
/** A WAV file without a sample: 44 bytes of header. */
const SILENCE = 'UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA='

const state = createRequestStateCodec<Record<string, unknown>>({ key: randomBytes(32) })
const text = (value: string) => ({ type: 'text' as const, text: value })
const image = { type: 'image' as const, data: PIXEL, mimeType: 'image/png' }
const embedded = (uri: string, value: string, mimeType = 'text/plain') => ({
  type: 'resource' as const,
  resource: { uri, mimeType, text: value },
})
const answer = (...content: object[]) => ({ content })
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))
const objectOf = (properties: Record<string, object>, required = Object.keys(properties)) => ({
  type: 'object' as const,
  properties,
  required,
})

type Handler = (args: Record<string, unknown>, context: ServerContext) => unknown
interface Fixture {
  readonly inputSchema?: object
  readonly run: Handler
}

const form = (message: string, properties: Record<string, object>) => ({
  method: 'elicitation/create' as const,
  params: { mode: 'form' as const, message, requestedSchema: objectOf(properties) },
})
const sample = (prompt: string, maxTokens = 100) => ({
  method: 'sampling/createMessage' as const,
  params: { messages: [{ role: 'user' as const, content: text(prompt) }], maxTokens },
})
const roots = { method: 'roots/list' as const, params: {} }
type Requests = Record<string, ReturnType<typeof form> | ReturnType<typeof sample> | typeof roots>

/** Asks until every answer is there, in the right shape; then `done` says what came. */
function ask(
  requests: Requests,
  done: (responses: Record<string, unknown>, context: ServerContext) => unknown,
  withState = false,
): Handler {
  return async (_, context) => {
    const { inputResponses = {} } = context.mcpReq
    const complete = Object.entries(requests).every(([key, request]) => fits(inputResponses[key], request))
    if (complete && (!withState || context.mcpReq.requestState?.())) return done(inputResponses, context)
    return inputRequired({
      inputRequests: requests as never,
      ...(withState && { requestState: await state.mint({ asked: Object.keys(requests) }) }),
    })
  }
}

function fits(response: unknown, request: Requests[string]): boolean {
  const told = response as { action?: unknown; content?: unknown; roots?: unknown } | undefined
  if (request.method === 'elicitation/create') {
    const content = told?.content as Record<string, unknown> | undefined
    return (
      told?.action === 'accept' &&
      request.params.requestedSchema.required.every((name) => content?.[name] !== undefined)
    )
  }
  return request.method === 'roots/list' ? Array.isArray(told?.roots) : told?.content !== undefined
}

const contentOf = (response: unknown) => (response as { content?: Record<string, unknown> }).content ?? {}
const NAME = { user_name: form('What is your name?', { name: { type: 'string' } }) }
const hello = (responses: Record<string, unknown>) =>
  answer(text(`Hello, ${contentOf(responses.user_name).name}!`))
const CONFIRM = { confirm: form('Please confirm', { ok: { type: 'boolean' } }) }

/** Asks the client over the older, session-keeping route. */
const elicit =
  (schemaOf: (args: Record<string, unknown>) => { message: string; requestedSchema: object }): Handler =>
  async (args, context) => {
    const { action, content } = (await context.mcpReq.send({
      method: 'elicitation/create',
      params: schemaOf(args) as never,
    })) as { action: string; content?: unknown }
    return answer(text(`action=${action}, content=${JSON.stringify(content ?? {})}`))
  }

const TOOLS: Record<string, Fixture> = {
  test_simple_text: { run: () => answer(text('This is a simple text response for testing.')) },
  test_image_content: { run: () => answer(image) },
  test_audio_content: { run: () => answer({ type: 'audio', data: SILENCE, mimeType: 'audio/wav' }) },
  test_embedded_resource: {
    run: () => answer(embedded('test://embedded-resource', 'This is an embedded resource content.')),
  },
  test_multiple_content_types: {
    run: () =>
      answer(
        text('Multiple content types test:'),
        image,
        embedded('test://mixed-content-resource', '{"test":"data","value":123}', 'application/json'),
      ),
  },
  test_tool_with_logging: {
    async run(_, { mcpReq }) {
      for (const data of ['Tool execution started', 'Tool processing data', 'Tool execution completed']) {
        await mcpReq.notify({ method: 'notifications/message', params: { level: 'info', data } })
        await pause(50)
      }
      return answer(text('Logged.'))
    },
  },
  test_tool_with_progress: {
    async run(_, { mcpReq }) {
      const progressToken = mcpReq._meta?.progressToken ?? 0
      for (const progress of [0, 50, 100]) {
        await mcpReq.notify({
          method: 'notifications/progress',
          params: { progressToken, progress, total: 100 },
        })
        await pause(50)
      }
      return answer(text(String(progressToken)))
    },
  },
  test_error_handling: {
    run: () => ({ isError: true, ...answer(text('This tool intentionally returns an error for testing')) }),
  },
  test_sampling: {
    inputSchema: objectOf({ prompt: { type: 'string' } }),
    async run({ prompt }, { mcpReq }) {
      const { content } = (await mcpReq.send(sample(String(prompt)) as never)) as unknown as {
        content: { text?: string }
      }
      return answer(text(`LLM response: ${content.text}`))
    },
  },
  test_elicitation: {
    inputSchema: objectOf({ message: { type: 'string' } }),
    run: elicit(({ message }) => ({
      message: String(message),
      requestedSchema: objectOf({ response: { type: 'string' } }),
    })),
  },
  test_elicitation_sep1034_defaults: {
    run: elicit(() => ({
      message: 'Defaults of every primitive type',
      requestedSchema: objectOf(
        {
          name: { type: 'string', default: 'John Doe' },
          age: { type: 'integer', default: 30 },
          score: { type: 'number', default: 95.5 },
          status: { type: 'string', enum: ['active', 'inactive', 'pending'], default: 'active' },
          verified: { type: 'boolean', default: true },
        },
        [],
      ),
    })),
  },
  test_elicitation_sep1330_enums: {
    run: elicit(() => {
      const plain = ['option1', 'option2', 'option3']
      const titled = [1, 2, 3].map((n) => ({ const: `value${n}`, title: `Option ${n}` }))
      return {
        message: 'Every kind of choice',
        requestedSchema: objectOf(
          {
            untitledSingle: { type: 'string', enum: plain },
            titledSingle: { type: 'string', oneOf: titled },
            legacyEnum: {
              type: 'string',
              enum: ['opt1', 'opt2', 'opt3'],
              enumNames: ['Option One', 'Option Two', 'Option Three'],
            },
            untitledMulti: { type: 'array', items: { type: 'string', enum: plain } },
            titledMulti: { type: 'array', items: { anyOf: titled } },
          },
          [],
        ),
      }
    }),
  },
  test_missing_capability: {
    run() {
      throw new MissingRequiredClientCapabilityError({ requiredCapabilities: { sampling: {} } })
    },
  },
  test_logging_tool: {
    async run(_, { mcpReq }) {
      // Only a request that asks for it gets log messages (2026-07-28).
      const level = (mcpReq.envelope as Record<string, unknown> | undefined)?.[LOG_LEVEL_META_KEY]
      if (level !== undefined)
        await mcpReq.notify({ method: 'notifications/message', params: { level: 'info', data: 'Called.' } })
      return answer(text('Logged.'))
    },
  },
  test_streaming_elicitation: { run: ask(NAME, hello) },
  test_input_required_result_elicitation: { run: ask(NAME, hello) },
  test_input_required_result_sampling: {
    run: ask({ capital_question: sample('What is the capital of France?') }, ({ capital_question }) =>
      answer(text(String(contentOf(capital_question).text))),
    ),
  },
  test_input_required_result_list_roots: {
    run: ask({ client_roots: roots }, ({ client_roots }) => answer(text(JSON.stringify(client_roots)))),
  },
  test_input_required_result_request_state: { run: ask(CONFIRM, () => answer(text('state-ok')), true) },
  test_input_required_result_tampered_state: { run: ask(CONFIRM, () => answer(text('state-ok')), true) },
  test_input_required_result_multiple_inputs: {
    run: ask(
      { ...NAME, greeting: sample('Generate a greeting', 50), client_roots: roots },
      (responses) => answer(text(JSON.stringify(responses))),
      true,
    ),
  },
  test_input_required_result_multi_round: {
    async run(_, { mcpReq }) {
      const known = mcpReq.requestState?.<{ name?: unknown }>()
      const { step1, step2 } = mcpReq.inputResponses ?? {}
      if (known?.name !== undefined && step2)
        return answer(text(`${known.name} likes ${contentOf(step2).color}.`))
      if (known && step1)
        return inputRequired({
          inputRequests: {
            step2: form('Step 2: What is your favorite color?', { color: { type: 'string' } }),
          } as never,
          requestState: await state.mint({ name: contentOf(step1).name }),
        })
      return inputRequired({
        inputRequests: { step1: form('Step 1: What is your name?', { name: { type: 'string' } }) } as never,
        requestState: await state.mint({}),
      })
    },
  },
  test_input_required_result_capabilities: {
    run(args, context) {
      const declared = (context.mcpReq.envelope as Record<string, object> | undefined)?.[
        CLIENT_CAPABILITIES_META_KEY
      ] as { sampling?: object; elicitation?: object } | undefined
      const requests: Requests = {
        ...(declared?.elicitation && NAME),
        ...(declared?.sampling && { greeting: sample('Generate a greeting') }),
      }
      return ask(requests, () => answer(text('done')))(args, context)
    },
  },
}

const user = (content: object) => ({ role: 'user' as const, content })
const PROMPTS: Record<string, { arguments?: string[]; get: Handler }> = {
  test_simple_prompt: { get: () => ({ messages: [user(text('This is a simple prompt for testing.'))] }) },
  test_prompt_with_arguments: {
    arguments: ['arg1', 'arg2'],
    get: ({ arg1, arg2 }) => ({
      messages: [user(text(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`))],
    }),
  },
  test_prompt_with_embedded_resource: {
    arguments: ['resourceUri'],
    get: ({ resourceUri }) => ({
      messages: [user(embedded(String(resourceUri), 'Embedded.')), user(text('Please process it.'))],
    }),
  },
  test_prompt_with_image: { get: () => ({ messages: [user(image), user(text('Please analyze it.'))] }) },
  test_input_required_result_prompt: {
    get: ask(
      { user_context: form('What context should the prompt use?', { context: { type: 'string' } }) },
      ({ user_context }) => ({ messages: [user(text(String(contentOf(user_context).context)))] }),
    ),
  },
}

const RESOURCES = [
  { uri: 'test://static-text', name: 'static-text', mimeType: 'text/plain', text: 'Static text.' },
  { uri: 'test://static-binary', name: 'static-binary', mimeType: 'image/png', blob: PIXEL },
  { uri: 'test://watched-resource', name: 'watched-resource', mimeType: 'text/plain', text: 'Watched.' },
]

/** A server of the fixtures, as the product's factory makes one: per request or per session. */
export function createFixtureServer(): Server {
  const server = new Server(
    { name: 'conformance-fixtures', version: '1' },
    {
      capabilities: {
        tools: {},
        resources: { subscribe: true },
        prompts: {},
        logging: {},
        completions: {},
      },
      requestState: { verify: state.verify },
      cacheHints: Object.fromEntries(
        ['tools/list', 'prompts/list', 'resources/list', 'resources/templates/list', 'resources/read'].map(
          (method) => [method, { ttlMs: 1000, cacheScope: 'public' as const }],
        ),
      ),
    },
  )
  const unknown = (what: string) => new ProtocolError(ProtocolErrorCode.InvalidParams, `There is no ${what}.`)
  server.setRequestHandler('tools/list', () => ({
    tools: Object.entries(TOOLS).map(([name, { inputSchema = objectOf({}) }]) => ({
      name,
      description: `Fixture ${name}.`,
      inputSchema: inputSchema as { type: 'object' },
    })),
  }))
  server.setRequestHandler('tools/call', async ({ params }, context) => {
    const tool = TOOLS[params.name]
    if (!tool) throw unknown(`tool ${params.name}`)
    return (await tool.run(params.arguments ?? {}, context)) as never
  })
  server.setRequestHandler('prompts/list', () => ({
    prompts: Object.entries(PROMPTS).map(([name, { arguments: names = [] }]) => ({
      name,
      description: `Fixture ${name}.`,
      arguments: names.map((argument) => ({ name: argument, required: true })),
    })),
  }))
  server.setRequestHandler('prompts/get', async ({ params }, context) => {
    const prompt = PROMPTS[params.name]
    if (!prompt) throw unknown(`prompt ${params.name}`)
    return (await prompt.get(params.arguments ?? {}, context)) as never
  })
  server.setRequestHandler('resources/list', () => ({
    resources: RESOURCES.map(({ uri, name, mimeType }) => ({ uri, name, mimeType })),
  }))
  server.setRequestHandler('resources/templates/list', () => ({
    resourceTemplates: [
      { uriTemplate: 'test://template/{id}/data', name: 'template', mimeType: 'application/json' },
    ],
  }))
  server.setRequestHandler('resources/read', ({ params: { uri } }) => {
    const id = /^test:\/\/template\/([^/]+)\/data$/.exec(uri)?.[1]
    if (id)
      return {
        contents: [
          { uri, mimeType: 'application/json', text: JSON.stringify({ id, data: `Data for ID: ${id}` }) },
        ],
      }
    const found = RESOURCES.find((resource) => resource.uri === uri)
    if (!found) throw new ResourceNotFoundError(uri)
    const { name, ...content } = found
    return { contents: [content] as never }
  })
  server.setRequestHandler('resources/subscribe', () => ({}))
  server.setRequestHandler('resources/unsubscribe', () => ({}))
  server.setRequestHandler('logging/setLevel', () => ({}))
  server.setRequestHandler('completion/complete', () => ({
    completion: { values: [], total: 0, hasMore: false },
  }))
  return server
}
