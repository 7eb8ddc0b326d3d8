/** Scopes of MCP methods and of routes. Tools have their own. */
import type { MiddlewareHandler } from 'hono'
import { requireScope, type Scope } from '../auth/scopes.ts'
import type { AppEnv } from './context.ts'

/** The scope that an MCP method needs, over every transport. All other methods are open to every caller. */
export const METHOD_SCOPES = {
  'resources/list': 'image:read',
  'resources/read': 'image:read',
  'tasks/get': 'image:read',
  'tasks/update': 'image:read',
  'tasks/cancel': 'image:generate',
} as const satisfies Record<string, Scope>

/** Middleware that lets only callers with the scope pass. @throws AppError `forbidden`. */
export function needs(scope: Scope): MiddlewareHandler<AppEnv> {
  return async function scopeGuard(c, next) {
    requireScope(c.var.caller, scope)
    await next()
  }
}
