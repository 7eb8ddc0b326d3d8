/** What contract tests send, and how they read the answers. */
import { METHOD_SCOPES } from '../../src/transports/method-scopes.ts'
import type { Running } from './process.ts'

/** A request that takes no time. */
export const TINY = { prompt: 'a lighthouse', width: 64, height: 64, num_inference_steps: 4 }

/** Where a tool's error stands in `_meta`. */
export const ERROR_META = 'io.github.diffusers-mcp/error'

type ScopedMethod = keyof typeof METHOD_SCOPES
const PARAMS: Record<ScopedMethod, Record<string, unknown>> = {
  'resources/list': {},
  'resources/read': { uri: 'image://nothing' },
  'tasks/get': { taskId: 'nothing' },
  'tasks/update': { taskId: 'nothing' },
  'tasks/cancel': { taskId: 'nothing' },
}
/** Every MCP method that needs a scope, with parameters that name nothing, and the scope. */
export const SCOPED_METHODS = (Object.keys(METHOD_SCOPES) as ScopedMethod[]).map(
  (method) => [method, PARAMS[method], METHOD_SCOPES[method]] as const,
)

/** Generations that a simulated runtime counted. */
export interface RuntimeStats {
  readonly started: number
  readonly running: number
  readonly aborted: number
  /** Denoising steps of all of them. */
  readonly steps: number
}

/** What a simulated runtime did so far. */
export async function statsOf({ url }: Running): Promise<RuntimeStats> {
  return (await (await fetch(`${url}/stats`)).json()) as RuntimeStats
}

/** The last JSON-RPC message of a response from `/mcp`, be it JSON or an event stream. */
export async function readRpc(response: Response) {
  const text = await response.text()
  const lines = text.split('\n').filter((line) => line.startsWith('data: '))
  return JSON.parse(text.startsWith('{') ? text : (lines.at(-1)?.slice('data: '.length) ?? '{}'))
}
