/** Where scopes hold besides the tools', which ask for their own. */
import type { MiddlewareHandler } from 'hono'
import { requireScope, type Scope } from '../auth/scopes.ts'
import type { AppEnv } from './context.ts'

/** The scope that an MCP method needs, over every transport; methods that are not here are open to all callers. */
export const METHOD_SCOPES = {
  'resources/list': 'image:read',
  'resources/read': 'image:read',
  'tasks/get': 'image:read',
  'tasks/update': 'image:read',
  'tasks/cancel': 'image:generate',
} as const satisfies Record<string, Scope>

/** A route's guard. @throws AppError `forbidden`. */
export function needs(scope: Scope): MiddlewareHandler<AppEnv> {
  return async function scopeGuard(c, next) {
    requireScope(c.var.caller, scope)
    await next()
  }
}
