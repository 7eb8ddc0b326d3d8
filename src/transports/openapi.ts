/**
 * The routes of this server as OpenAPI 3.1 (https://spec.openapis.org/oas/v3.1.1). Each route has one entry, with the
 * schemas that check its requests. The schemas of the tools are included.
 */
import { Hono } from 'hono'
import { z } from 'zod'
import { METADATA_PATH, resourceMetadata } from '../auth/protected-resource.ts'
import { ERROR_STATUS, type ErrorCode } from '../errors.ts'
import { imageRequest } from '../runtimes/request.ts'
import { imageAnswer } from '../tools/image/image-answer.ts'
import { listedImage, listedPage, listing } from '../tools/image/list-images.ts'
import { idempotencyKeySchema, type Tool } from '../tools/tool.ts'
import { problemAnswer } from './error-answer.ts'
import { healthAnswer } from './operations.ts'
import { readyAnswer } from './readiness.ts'
import { queueAnswer } from './rest/jobs.ts'
import { toolContent, toolListAnswer } from './rest/tools.ts'

type Json = Readonly<Record<string, unknown>>

export interface OpenApiParts {
  readonly tools: readonly Tool[]
  readonly version: string
  /** True where callers must send a bearer token. */
  readonly tokenNeeded: boolean
  /** False where /metrics has a port of its own. */
  readonly serveMetrics: boolean
}

/** `/openapi.json`. */
export function openApiRoutes(parts: OpenApiParts): Hono {
  const document = openApiDocument(parts)
  return new Hono().get('/openapi.json', (c) => c.json(document))
}

const schemaOf = (schema: z.ZodType, io: 'input' | 'output' = 'output'): Json => {
  const { $schema: _, ...json } = z.toJSONSchema(schema, { io })
  return json
}
const json = (schema: Json, type = 'application/json') => ({ [type]: { schema } })
const body = (schema: Json, example: Json) => ({
  required: true,
  content: { 'application/json': { schema, example } },
})
const answer = (description: string, content: Json, more: Json = {}) => ({ description, content, ...more })
const ref = (name: string) => ({ $ref: `#/components/schemas/${name}` })

/** Every request may be refused: for its Host or Origin, without a token or scope, or by the rate limit. */
const ALWAYS: readonly ErrorCode[] = ['unauthenticated', 'forbidden', 'rate_limited', 'internal']
const WITH_BODY: readonly ErrorCode[] = ['invalid_request', 'too_large', 'unsupported_media_type']
const GENERATING: readonly ErrorCode[] = [
  'not_found',
  'conflict',
  'cancelled',
  'rate_limited',
  'runtime_failed',
  'overloaded',
  'runtime_unavailable',
  'deadline_exceeded',
]

const RETRY_AFTER = { 'Retry-After': { description: 'Seconds.', schema: { type: 'integer', minimum: 1 } } }

/** The error responses of a route: one per status, naming the codes that come with it. */
function errors(codes: readonly ErrorCode[], type = 'application/problem+json', schema = ref('Problem')) {
  const byStatus = new Map<number, ErrorCode[]>()
  for (const code of new Set([...ALWAYS, ...codes])) {
    const status = ERROR_STATUS[code]
    byStatus.set(status, [...(byStatus.get(status) ?? []), code])
  }
  return Object.fromEntries(
    [...byStatus].map(([status, codes]) => [
      status,
      answer(codes.join(', '), json(schema, type), {
        headers: status === 429 || status === 503 ? RETRY_AFTER : undefined,
      }),
    ]),
  )
}

const parameter = (where: 'path' | 'query' | 'header', name: string, schema: Json, more: Json = {}) => ({
  in: where,
  name,
  schema,
  required: where === 'path' ? true : undefined,
  ...more,
})
/** Query parameters of an object schema's properties. */
const queryOf = (schema: Json) =>
  Object.entries((schema.properties ?? {}) as Record<string, Json>).map(([name, property]) =>
    parameter('query', name, property),
  )

const PREFER = parameter(
  'header',
  'Prefer',
  { type: 'string', pattern: '^(respond-async|wait=[0-9]{1,3})$' },
  { description: 'RFC 7240: respond-async answers with a handle at once; wait=N waits so many seconds.' },
)
const GENERATION_HEADERS = [
  PREFER,
  parameter('header', 'Idempotency-Key', schemaOf(idempotencyKeySchema, 'input'), {
    description:
      'A retry with the same key joins the work of the first request. Without authentication a key has no effect, and `notes` in the answer says so.',
  }),
  parameter(
    'header',
    'X-Request-Timeout',
    { type: 'number', minimum: 0, maximum: 86_400 },
    { description: 'Seconds after which the result is of no use.' },
  ),
]
const ID = parameter('path', 'id', { type: 'string', minLength: 1, maxLength: 200 })
const EVENTS = { 'text/event-stream': { schema: { type: 'string' } } }

/** The document for a server with these tools. */
// biome-ignore lint/complexity/noExcessiveLinesPerFunction: it is data, one entry for each route
export function openApiDocument({ tools, version, tokenNeeded, serveMetrics }: OpenApiParts): Json {
  const open = { security: [] }
  const tool = (name: string) => tools.find((tool) => tool.name === name)?.listing
  const datastores = tool('xdp_list_datastores')
  const query = tool('trino_execute_query')
  const picture = { 'application/json': { schema: ref('ImageAnswer') }, ...EVENTS }

  return {
    openapi: '3.1.1',
    info: {
      title: 'diffusers-mcp',
      version,
      description:
        'Pictures from text, and the tools that are configured, over plain HTTP. The same tools are served over MCP at /mcp.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    security: tokenNeeded ? [{ bearer: [] }] : undefined,
    paths: {
      '/health': {
        get: {
          operationId: 'getHealth',
          summary: 'The process answers',
          ...open,
          responses: { 200: answer('It does.', json(schemaOf(healthAnswer))), ...errors([]) },
        },
      },
      '/ready': {
        get: {
          operationId: 'getReadiness',
          summary: 'Whether it should get traffic, with each dependency',
          ...open,
          responses: {
            ...errors([]),
            200: answer('At least one toolset is usable.', json(ref('Readiness'))),
            503: answer('None is, or the server is starting or stopping.', json(ref('Readiness'))),
          },
        },
      },
      '/metrics': serveMetrics
        ? {
            get: {
              operationId: 'getMetrics',
              summary: 'Metrics in the text format of Prometheus',
              ...open,
              responses: {
                200: answer('All metrics.', { 'text/plain': { schema: { type: 'string' } } }),
                ...errors([]),
              },
            },
          }
        : undefined,
      ...Object.fromEntries(
        (['', '/mcp'] as const).map((path) => [
          METADATA_PATH + path,
          {
            get: {
              operationId: path === '' ? 'getResourceMetadata' : 'getMcpResourceMetadata',
              summary: 'Where tokens come from (RFC 9728)',
              ...open,
              responses: {
                200: answer('The metadata.', json(schemaOf(resourceMetadata))),
                ...errors(['not_found']),
              },
            },
          },
        ]),
      ),
      '/openapi.json': {
        get: {
          operationId: 'getOpenApi',
          summary: 'This document',
          responses: {
            200: answer('OpenAPI 3.1.', json({ type: 'object', required: ['openapi', 'paths'] })),
            ...errors([]),
          },
        },
      },
      '/mcp': {
        post: {
          operationId: 'mcp',
          summary: 'Model Context Protocol, Streamable HTTP',
          description:
            'One JSON-RPC 2.0 message per request, for clients of the protocol (https://modelcontextprotocol.io). ' +
            'Its methods, headers and errors are specified there, not here.',
          requestBody: body({ type: 'object' }, { jsonrpc: '2.0', id: 1, method: 'tools/list' }),
          responses: {
            200: answer('A JSON-RPC message, or a stream of them.', { ...json(ref('JsonRpc')), ...EVENTS }),
            202: { description: 'A notification was taken.' },
            406: answer('Accept must name application/json and text/event-stream.', json(ref('JsonRpc'))),
            ...errors([...WITH_BODY, 'not_found'], 'application/json', ref('JsonRpc')),
          },
        },
      },
      '/ws': {
        get: {
          operationId: 'openWebSocket',
          summary: 'MCP, or plain messages, over WebSocket (RFC 6455)',
          description:
            'Answers upgrade requests alone. Offer the subprotocol "mcp" for the Model Context Protocol, or none for ' +
            'plain messages; browsers add "bearer." and the token in base64url.',
          responses: {
            101: { description: 'The connection is open.' },
            ...errors(['invalid_request', 'overloaded']),
          },
        },
      },
      '/api/tools/list': {
        post: {
          operationId: 'listTools',
          summary: 'All tools with their schemas',
          responses: { 200: answer('The tools.', json(schemaOf(toolListAnswer))), ...errors([]) },
        },
      },
      '/api/tools/execute': {
        post: {
          operationId: 'executeTool',
          summary: 'Call a tool by name',
          parameters: GENERATION_HEADERS.slice(1),
          requestBody: body({ oneOf: tools.map(callOf) }, { tool: 'list_image_models', params: {} }),
          responses: {
            200: answer("The tool's answer.", json({ oneOf: tools.map(resultOf) })),
            ...errors([...WITH_BODY, ...GENERATING]),
          },
        },
      },
      '/api/images': {
        post: {
          operationId: 'generateImage',
          summary: 'Make a picture',
          description:
            'Accept: image/png answers the picture itself, text/event-stream its progress and then the answer.',
          parameters: GENERATION_HEADERS,
          requestBody: body(schemaOf(imageRequest, 'input'), {
            prompt: 'a red car',
            width: 512,
            height: 512,
            seed: 7,
          }),
          responses: {
            200: answer('The picture is there.', { ...picture, 'image/png': {} }),
            202: answer('It is being made: Location says where to ask.', json(ref('ImageAnswer'))),
            ...errors([...WITH_BODY, ...GENERATING]),
          },
        },
      },
      '/api/jobs/{id}': {
        get: {
          operationId: 'getJob',
          summary: 'How far a picture is',
          parameters: [ID, PREFER],
          responses: {
            200: answer('The job, ended or not.', picture),
            ...errors(['invalid_request', 'not_found', 'runtime_unavailable']),
          },
        },
        delete: {
          operationId: 'cancelJob',
          summary: 'Cancel a picture, in the runtime too',
          parameters: [ID],
          responses: {
            200: answer('The job as it is now.', json(ref('ImageAnswer'))),
            ...errors(['not_found', 'runtime_unavailable']),
          },
        },
      },
      '/api/queue': {
        get: {
          operationId: 'getQueue',
          summary: 'Queue and concurrency of each target',
          responses: { 200: answer('The targets.', json(schemaOf(queueAnswer))), ...errors([]) },
        },
      },
      '/images': {
        get: {
          operationId: 'listImages',
          summary: 'Your pictures, newest first; needs authentication',
          parameters: queryOf(schemaOf(listing, 'input')),
          responses: {
            200: answer('A page of them.', json(schemaOf(listedPage))),
            ...errors(['invalid_request']),
          },
        },
      },
      '/images/{id}': {
        get: {
          operationId: 'getImage',
          summary: 'The picture itself',
          description: 'With the query of a signed link no token is needed.',
          parameters: [
            ID,
            parameter('query', 'variant', { type: 'string', enum: ['full', 'preview'], default: 'full' }),
            parameter('query', 'exp', { type: 'string' }, { description: 'Of a signed link.' }),
            parameter('query', 'sig', { type: 'string' }, { description: 'Of a signed link.' }),
          ],
          responses: {
            200: answer('The PNG, or a smaller WebP.', { 'image/png': {}, 'image/webp': {} }),
            304: { description: 'The client has it already: its If-None-Match names it.' },
            ...errors(['invalid_request', 'not_found']),
          },
        },
        delete: {
          operationId: 'deleteImage',
          summary: 'Delete one of your pictures',
          parameters: [ID],
          responses: { 204: { description: 'It is gone.' }, ...errors(['not_found']) },
        },
      },
      '/images/{id}/metadata': {
        get: {
          operationId: 'getImageMetadata',
          summary: 'What is known of one of your pictures',
          parameters: [ID],
          responses: {
            200: answer('What it was made of.', json(schemaOf(listedImage))),
            ...errors(['not_found']),
          },
        },
      },
      '/api/xdp/datastores': datastores
        ? {
            get: {
              operationId: 'listDatastores',
              summary: 'Datastores that XDP knows',
              parameters: queryOf(datastores.inputSchema as Json),
              responses: {
                200: answer('A page of them.', json(bare(datastores.outputSchema))),
                ...errors(['invalid_request', ...GENERATING]),
              },
            },
          }
        : undefined,
      '/api/trino/query': query
        ? {
            post: {
              operationId: 'queryTrino',
              summary: query.title,
              description: query.description,
              parameters: GENERATION_HEADERS.slice(2),
              requestBody: body(bare(query.inputSchema), { query: 'SELECT 1', maxRows: 10 }),
              responses: {
                200: answer('Its rows.', json(bare(query.outputSchema))),
                ...errors([...WITH_BODY, ...GENERATING]),
              },
            },
          }
        : undefined,
    },
    components: {
      securitySchemes: tokenNeeded ? { bearer: { type: 'http', scheme: 'bearer' } } : undefined,
      schemas: {
        Problem: schemaOf(problemAnswer),
        ImageAnswer: schemaOf(imageAnswer),
        Readiness: schemaOf(readyAnswer),
        JsonRpc: {
          type: 'object',
          properties: { jsonrpc: { const: '2.0' } },
          required: ['jsonrpc'],
        },
      },
    },
  }
}

/** A tool's schema without its dialect, which the document sets for all schemas. */
function bare(schema: unknown): Json {
  const { $schema: _, ...rest } = schema as Json
  return rest
}

const callOf = ({ name, listing }: Tool) => ({
  type: 'object',
  properties: { tool: { const: name }, params: bare(listing.inputSchema) },
  required: ['tool'],
  additionalProperties: false,
})
const resultOf = ({ name, listing }: Tool) => ({
  type: 'object',
  properties: { tool: { const: name }, data: bare(listing.outputSchema), content: schemaOf(toolContent) },
  required: ['tool', 'data', 'content'],
  additionalProperties: false,
})
