/** Tells clients where tokens come from: metadata (RFC 9728), and the challenges (RFC 6750) that lead to it. */
import { z } from 'zod'
import type { AppError } from '../errors.ts'
import { SCOPES } from './scopes.ts'

/** The path of the metadata; the resource's own path follows it. */
export const METADATA_PATH = '/.well-known/oauth-protected-resource'

/** `/mcp`, the path that MCP hosts know, or '' for the whole server. */
export type ResourcePath = '' | '/mcp'

/** What the metadata says (RFC 9728). */
export const resourceMetadata = z.object({
  resource: z.string(),
  authorization_servers: z.array(z.string()).optional(),
  scopes_supported: z.array(z.enum(SCOPES)),
  bearer_methods_supported: z.array(z.literal('header')),
  resource_name: z.string(),
})

/**
 * The metadata of a resource.
 * @param issuer of JWTs. One that is no URL is left out, because no client can ask it for a token.
 */
export function protectedResource(options: {
  readonly publicUrl: string
  readonly path: ResourcePath
  readonly issuer: string | undefined
}): z.output<typeof resourceMetadata> {
  const { publicUrl, path, issuer } = options
  return {
    resource: publicUrl + path,
    ...(issuer && /^https?:\/\//.test(issuer) ? { authorization_servers: [issuer] } : {}),
    scopes_supported: [...SCOPES],
    bearer_methods_supported: ['header'],
    resource_name: 'diffusers-mcp',
  }
}

/**
 * The value of `WWW-Authenticate` for an error; undefined where it needs none.
 * @param publicUrl if undefined, the challenge cannot name the metadata.
 * @param presented true where the request came with an `Authorization` header.
 */
export function challengeOf(
  error: AppError,
  options: {
    readonly publicUrl: string | undefined
    readonly path: ResourcePath
    readonly presented: boolean
  },
): string | undefined {
  const { publicUrl, path, presented } = options
  if (error.code !== 'unauthenticated' && error.missingScope === undefined) return undefined
  const parameters = {
    ...(error.missingScope === undefined
      ? presented && { error: 'invalid_token' }
      : { error: 'insufficient_scope', scope: error.missingScope }),
    ...(publicUrl === undefined ? {} : { resource_metadata: publicUrl + METADATA_PATH + path }),
  }
  const written = Object.entries(parameters).map(([name, value]) => `${name}="${value}"`)
  return ['Bearer', written.join(', ')].filter(Boolean).join(' ')
}
