import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { loadConfig } from './config.ts'
import { configHelp } from './help.ts'
import type { ConfigError } from './problem.ts'
import { SETTINGS } from './settings.ts'

const problemsOf = (env: Record<string, string>) => {
  try {
    loadConfig(env)
  } catch (error) {
    return (error as ConfigError).message
  }
  throw new Error('expected the configuration to be refused')
}
const TOKEN = 'a-token-long-enough'

describe('defaults', () => {
  test('an empty environment is a server on loopback that draws with the shipped model', () => {
    expect(loadConfig({})).toMatchObject({
      host: '127.0.0.1',
      port: 8080,
      loopback: true,
      targets: [{ name: 'icons', kind: 'embedded' }],
      waitBudgetMs: 40_000,
      images: { backend: 'memory', ttlSeconds: 3600, inlineMaxBytes: 716_800 },
    })
  })

  test('an empty value counts as absent, as manifests often write it', () => {
    expect(loadConfig({ PORT: '' }).port).toBe(8080)
  })

  test('every default is allowed', () => {
    for (const [name, spec] of Object.entries(SETTINGS))
      if ('default' in spec && spec.default !== undefined)
        expect(spec.schema.safeParse(spec.default).success, name).toBe(true)
  })
})

describe('wrong values', () => {
  test('are all listed at once, with the variable, what it got and what is allowed', () => {
    const message = problemsOf({ PORT: 'http', LOG_LEVEL: 'loud', IMAGE_TTL_SECONDS: '0' })
    expect(message).toContain('3 problems')
    expect(message).toContain('PORT: got "http"; allowed: a whole number 0-65535')
    expect(message).toContain('LOG_LEVEL: got "loud"; allowed: fatal | error | warn')
    expect(message).toContain('IMAGE_TTL_SECONDS: got "0"')
  })

  test.each([
    ['PUBLIC_URL', 'ftp://host'],
    ['PUBLIC_URL', 'https://host/?a=b'],
    ['PUBLIC_URL', 'https://user:pass@host'],
    ['PORT', '65536'],
    ['PORT', '1e3'],
    ['PORT', '-1'],
    ['ALLOWED_ORIGINS', 'app.example.com'],
    ['RUNTIMES', '{}'],
    ['RUNTIMES', '[]'],
    ['RUNTIMES', '[{"name":"a","kind":"kserve"}]'],
    ['RUNTIMES', '[{"name":"A b","kind":"simulated"}]'],
    ['RUNTIMES', '[{"name":"a","kind":"simulated","typo":1}]'],
    ['RUNTIMES', '[{"name":"a","kind":"simulated"},{"name":"a","kind":"simulated"}]'],
    ['RUNTIMES', 'not json'],
    ['RUNTIMES_FILE', '/nonexistent/file'],
  ])('%s=%s is refused by name', (variable, value) => {
    expect(problemsOf({ [variable]: value })).toContain(variable)
  })

  test('never show a secret', () => {
    const message = problemsOf({ MCP_AUTH_TOKEN: 'short secret', IMAGE_URL_KEY: 'tiny' })
    expect(message).toContain('MCP_AUTH_TOKEN: allowed: at least 16')
    expect(message).not.toContain('short secret')
    expect(message).not.toContain('tiny')
  })
})

const JWT = {
  AUTH_JWT_JWKS_URL: 'https://issuer.example/jwks',
  AUTH_JWT_ISSUER: 'https://issuer.example/',
  AUTH_JWT_AUDIENCE: 'https://mcp.example.com/mcp',
}
const JWT_SECRET = 'a-shared-secret-of-at-least-32-characters'

describe('authentication', () => {
  test('an address that others can reach needs one of the means, or AUTH=none', () => {
    expect(problemsOf({ HOST: '0.0.0.0' })).toMatch(/HOST.*MCP_AUTH_TOKEN.*AUTH=none/)
    expect(loadConfig({ HOST: '0.0.0.0', AUTH: 'none' }).loopback).toBe(false)
    expect(loadConfig({ HOST: '0.0.0.0', MCP_AUTH_TOKEN: TOKEN }).auth.token?.read()).toBe(TOKEN)
    expect(loadConfig({ HOST: '0.0.0.0', ...JWT }).auth.jwt).toMatchObject({ issuer: JWT.AUTH_JWT_ISSUER })
  })

  test('AUTH=none contradicts every one of them', () => {
    expect(problemsOf({ AUTH: 'none', MCP_AUTH_TOKEN: TOKEN })).toContain('contradicts MCP_AUTH_TOKEN')
    expect(problemsOf({ AUTH: 'none', ...JWT })).toContain('contradicts AUTH_JWT_JWKS_URL')
  })

  test('a wrong entry of AUTH_TOKENS is named by its place, without its value', () => {
    const message = problemsOf({ AUTH_TOKENS: '[{"name":"ci","token":"sesame","scopes":["image:read"]}]' })
    expect(message).toMatch(/AUTH_TOKENS: must be a JSON array of tokens: 0\.token must be at least 16/)
    expect(message).not.toContain('sesame')
  })

  test('JWTs need keys, an issuer and an audience', () => {
    for (const name of Object.keys(JWT)) expect(problemsOf({ ...JWT, [name]: '' })).toContain(`${name}: `)
    expect(loadConfig({ ...JWT }).auth.jwt?.algorithms).toContain('RS256')
  })

  test('JWT algorithm confusion (CVE-2026-22817): no mixture of secrets and public keys', () => {
    const { AUTH_JWT_JWKS_URL: _, ...rest } = JWT
    expect(loadConfig({ ...rest, AUTH_JWT_SECRET: JWT_SECRET }).auth.jwt?.algorithms).toEqual(['HS256'])
    expect(loadConfig({ ...JWT }).auth.jwt?.algorithms.filter((name) => name.startsWith('HS'))).toEqual([])
    for (const env of [
      { ...JWT, AUTH_JWT_SECRET: JWT_SECRET },
      { ...JWT, AUTH_JWT_ALGORITHMS: 'RS256,HS256' },
      { ...rest, AUTH_JWT_SECRET: JWT_SECRET, AUTH_JWT_ALGORITHMS: 'RS256' },
      { ...JWT, AUTH_JWT_ALGORITHMS: 'none' },
    ])
      expect(problemsOf(env as Record<string, string>)).toMatch(/AUTH_JWT_(SECRET|ALGORITHMS)/)
  })

  test('hard-coded key bypasses the JWT check (GHSA-g53w-w6mj-hrpp): there is no default secret, nor a short one', () => {
    expect(loadConfig({}).auth).toEqual({ token: undefined, tokens: undefined, jwt: undefined })
    const { AUTH_JWT_JWKS_URL: _, ...rest } = JWT
    expect(problemsOf(rest)).toContain('AUTH_JWT_SECRET is needed')
    expect(problemsOf({ ...rest, AUTH_JWT_SECRET: 'secret' })).toContain('at least 32 characters')
  })
})

describe('secrets', () => {
  test('may come from a file; a configuration printed by mistake does not show them', () => {
    const file = join(mkdtempSync(join(tmpdir(), 'config-')), 'token')
    writeFileSync(file, `${TOKEN}\n`)
    const config = loadConfig({ MCP_AUTH_TOKEN_FILE: file })
    expect(config.auth.token?.read()).toBe(TOKEN)
    expect(JSON.stringify(config)).not.toContain(TOKEN)
  })

  test('a file that is not there is a problem of the _FILE variable', () => {
    expect(problemsOf({ MCP_AUTH_TOKEN_FILE: '/nonexistent' })).toContain('MCP_AUTH_TOKEN_FILE')
  })

  test('both forms at once are refused', () => {
    expect(problemsOf({ MCP_AUTH_TOKEN: TOKEN, MCP_AUTH_TOKEN_FILE: '/x' })).toContain('not both')
  })
})

describe('IMAGES_BACKEND=s3', () => {
  const S3 = {
    IMAGES_BACKEND: 's3',
    IMAGES_S3_ENDPOINT: 'http://s3.example.com',
    IMAGES_S3_BUCKET: 'pictures',
    IMAGES_S3_ACCESS_KEY: 'key',
    IMAGES_S3_SECRET_KEY: 'secret',
  }

  test('takes endpoint, bucket and keys', () => {
    expect(loadConfig(S3).images.s3).toMatchObject({
      endpoint: 'http://s3.example.com',
      bucket: 'pictures',
      region: 'us-east-1',
    })
    expect(loadConfig({ ...S3, IMAGES_BACKEND: 'memory' }).images.s3).toBeUndefined()
  })

  test('names everything that is missing, once', () => {
    const message = problemsOf({ IMAGES_BACKEND: 's3', IMAGES_S3_BUCKET: 'Not A Bucket' })
    expect(message).toContain('4 problems')
    for (const variable of ['ENDPOINT', 'ACCESS_KEY', 'SECRET_KEY'])
      expect(message).toContain(`IMAGES_S3_${variable}: is needed with IMAGES_BACKEND=s3`)
  })

  test('takes a prefix of up to 200 characters', () => {
    const withPrefix = (length: number) => ({ ...S3, IMAGES_S3_PREFIX: 'p'.repeat(length) })
    expect(loadConfig(withPrefix(200)).images.s3?.prefix).toHaveLength(200)
    expect(problemsOf(withPrefix(201))).toContain('at most 200 characters')
  })

  test.each(['http://user@s3.example.com', 'http://:password@s3.example.com'])(
    'refuses credentials in the address: %s',
    (endpoint) =>
      expect(problemsOf({ ...S3, IMAGES_S3_ENDPOINT: endpoint })).toContain(
        'without query, fragment or credentials',
      ),
  )
})

describe('JOBS_BACKEND=valkey', () => {
  const VALKEY = {
    JOBS_BACKEND: 'valkey',
    VALKEY_URL: 'redis://:secret@valkey.example:6379/0',
    IMAGES_BACKEND: 'filesystem',
    IMAGE_URL_KEY: 'k'.repeat(32),
  }

  test('is read with its lock and its re-runs', () => {
    const { jobs, valkeyUrl } = loadConfig({ ...VALKEY, JOB_LOCK_MS: '2000' })
    expect(jobs).toEqual({ backend: 'valkey', lockMs: 2000, maxReruns: 3, remembered: 20_000 })
    expect(valkeyUrl?.read()).toBe(VALKEY.VALKEY_URL)
  })

  test('needs a server, pictures that all servers share, and one key for their links', () => {
    const message = problemsOf({ JOBS_BACKEND: 'valkey' })
    expect(message).toContain('3 problems')
    expect(message).toContain('VALKEY_URL: is needed with JOBS_BACKEND=valkey')
    expect(message).toContain('IMAGES_BACKEND: got "memory"; servers that share their jobs must share')
    expect(message).toContain('IMAGE_URL_KEY: is needed with JOBS_BACKEND=valkey')
  })

  test('a wrong URL is named without its password', () => {
    const message = problemsOf({ ...VALKEY, VALKEY_URL: 'http://:secret@valkey.example' })
    expect(message).toContain('VALKEY_URL: allowed: a redis:// or rediss:// (TLS) URL')
    expect(message).not.toContain('secret@')
  })
})

describe('IMAGES_BACKEND=valkey', () => {
  const VALKEY = { IMAGES_BACKEND: 'valkey', VALKEY_URL: 'redis://valkey:6379' }

  test('takes a URL and a bound, for jobs in memory or in the same place', () => {
    const bounded = { ...VALKEY, IMAGES_VALKEY_MAX_BYTES: '2097152' }
    expect(loadConfig(bounded)).toMatchObject({ images: { backend: 'valkey', valkeyMaxBytes: 2 ** 21 } })
    expect(loadConfig(VALKEY).images.valkeyMaxBytes).toBe(2 ** 28)
    const both = { ...VALKEY, JOBS_BACKEND: 'valkey', IMAGE_URL_KEY: 'k'.repeat(32) }
    expect(loadConfig(both).jobs.backend).toBe('valkey')
  })

  test('needs the URL', () => {
    expect(problemsOf({ IMAGES_BACKEND: 'valkey' })).toContain(
      'VALKEY_URL: is needed with IMAGES_BACKEND=valkey',
    )
  })

  test('is one of the answers where jobs are shared and pictures are not', () => {
    const { VALKEY_URL } = VALKEY
    expect(problemsOf({ JOBS_BACKEND: 'valkey', VALKEY_URL })).toMatch(/IMAGES_BACKEND: .*set s3 or valkey/)
  })
})

describe('targets', () => {
  test("the documents' variables define one KServe target", () => {
    const { targets, runtimeService } = loadConfig({
      DIFFUSERS_RUNTIME_URL: 'http://tiny-sd.default.svc.cluster.local:8080/',
      DIFFUSERS_RUNTIME_SERVICE: 'tiny-sd',
      DIFFUSERS_RUNTIME_NAMESPACE: 'default',
      DIFFUSERS_MODEL_ID: 'model',
    })
    expect(targets).toEqual([
      {
        name: 'tiny-sd',
        kind: 'kserve',
        url: 'http://tiny-sd.default.svc.cluster.local:8080',
        model: 'model',
        concurrency: 1,
        queue: 16,
        defaults: {},
      },
    ])
    expect(runtimeService).toBe('tiny-sd.default')
  })

  test('RUNTIMES excludes them', () => {
    expect(
      problemsOf({ RUNTIMES: '[{"name":"a","kind":"simulated"}]', DIFFUSERS_RUNTIME_URL: 'http://x' }),
    ).toContain('DIFFUSERS_RUNTIME_URL: contradicts RUNTIMES')
  })
})

describe('the table', () => {
  test('--help names every variable', () => {
    const help = configHelp()
    for (const name of Object.keys(SETTINGS)) expect(help).toContain(`  ${name}\n`)
  })
})

describe('Trino', () => {
  const TRINO = { TRINO_URL: 'https://trino.example.com/', TRINO_USER: 'reader' }
  const of = (env: Record<string, string>) => loadConfig({ ...TRINO, ...env }).trino

  test('is off without an address, and reads only unless it is told otherwise', () => {
    expect(loadConfig({}).trino).toEqual({
      cluster: undefined,
      timeoutMs: 40_000,
      maxRows: 1000,
      maxBytes: 262_144,
      allowWrites: false,
    })
    expect(of({})).toMatchObject({ cluster: { url: 'https://trino.example.com', user: 'reader' } })
    expect(of({ TRINO_ALLOW_WRITES: 'true' }).allowWrites).toBe(true)
    expect(of({ TRINO_PASSWORD: 'secret' }).cluster?.password?.read()).toBe('secret')
  })

  test.each<[string, Record<string, string>, RegExp]>([
    ['nobody asks', { TRINO_USER: '' }, /TRINO_USER: is needed with TRINO_URL/],
    [
      'a password without a user',
      { TRINO_USER: '', TRINO_PASSWORD: 'p' },
      /TRINO_USER: is needed with TRINO_PASSWORD/,
    ],
    ['two ways in', { TRINO_PASSWORD: 'p', TRINO_JWT: 'j' }, /TRINO_PASSWORD: contradicts TRINO_JWT/],
    [
      'a password in the clear',
      { TRINO_URL: 'http://trino', TRINO_PASSWORD: 'p' },
      /TRINO_URL: must be https/,
    ],
    ['a token in the clear', { TRINO_URL: 'http://trino', TRINO_JWT: 'j' }, /TRINO_URL: must be https/],
    ['no such certificates', { TRINO_CA_FILE: '/nonexistent' }, /TRINO_CA_FILE: must be a readable file/],
    ['a user without an address', { TRINO_URL: '' }, /TRINO_USER: is of no use without TRINO_URL/],
    [
      'neither yes nor no',
      { TRINO_ALLOW_WRITES: 'yes' },
      /TRINO_ALLOW_WRITES: got "yes"; allowed: false \| true/,
    ],
  ])('%s: refused', (_, env, message) => {
    expect(problemsOf({ ...TRINO, ...env })).toMatch(message)
  })
})

describe('XDP', () => {
  const XDP = { XDP_BASE_URL: 'https://xdp/api', XDP_ACCESS_KEY: 'key', XDP_SECRET_KEY: 'secret' }

  test('takes an address and two keys', () => {
    expect(loadConfig({}).xdp).toBeUndefined()
    expect(loadConfig(XDP).xdp).toMatchObject({ baseUrl: 'https://xdp/api', timeoutMs: 30_000 })
  })

  test.each(Object.keys(XDP))('names %s when only that is missing', (name) => {
    expect(problemsOf({ ...XDP, [name]: '' })).toMatch(new RegExp(`has a problem:\\n  ${name}: is needed`))
  })
})
