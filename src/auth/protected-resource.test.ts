import { expect, test } from 'vitest'
import { AppError } from '../errors.ts'
import { challengeOf, protectedResource } from './protected-resource.ts'

const PUBLIC = 'https://mcp.example.com/images'
const unauthenticated = new AppError('unauthenticated', 'x')
const forbidden = new AppError('forbidden', 'x', { missingScope: 'image:read' })

test('the metadata names the resource by the public URL, and the issuer where it is one that can be asked', () => {
  expect(protectedResource({ publicUrl: PUBLIC, path: '/mcp', issuer: 'https://issuer.example' })).toEqual({
    resource: `${PUBLIC}/mcp`,
    authorization_servers: ['https://issuer.example'],
    scopes_supported: ['image:generate', 'image:read', 'data:read'],
    bearer_methods_supported: ['header'],
    resource_name: 'diffusers-mcp',
  })
  for (const issuer of [undefined, 'our-portal'])
    expect(protectedResource({ publicUrl: PUBLIC, path: '', issuer })).not.toHaveProperty(
      'authorization_servers',
    )
})

const METADATA = `resource_metadata="${PUBLIC}/.well-known/oauth-protected-resource/mcp"`

test.each([
  ['no token', unauthenticated, { publicUrl: PUBLIC, presented: false }, `Bearer ${METADATA}`],
  [
    'a wrong token',
    unauthenticated,
    { publicUrl: PUBLIC, presented: true },
    `Bearer error="invalid_token", ${METADATA}`,
  ],
  [
    'a missing scope',
    forbidden,
    { publicUrl: PUBLIC, presented: true },
    `Bearer error="insufficient_scope", scope="image:read", ${METADATA}`,
  ],
  ['no token, no public URL', unauthenticated, { publicUrl: undefined, presented: false }, 'Bearer'],
  ['another error', new AppError('forbidden', 'x'), { publicUrl: PUBLIC, presented: true }, undefined],
])('the challenge for %s', (_, error, options, value) => {
  expect(challengeOf(error, { ...options, path: '/mcp' })).toBe(value)
})
