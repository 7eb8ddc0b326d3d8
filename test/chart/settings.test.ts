/** What the chart gives the server is what the server takes: each scenario's environment through the server's own checks. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { type Config, loadConfig } from '../../src/config/config.ts'
import { SETTINGS } from '../../src/config/settings.ts'
import { manifests, render, SCENARIOS } from './helm.ts'

const folder = mkdtempSync(join(tmpdir(), 'settings-'))
afterAll(() => rmSync(folder, { recursive: true }))

const LONG = 'a-secret-of-the-tests-that-is-long-enough-0123456789'
/** What the Secrets that a scenario names would hold. */
const SECRETS: Record<string, string> = {
  VALKEY_URL: 'redis://:password@mcp-server-valkey:6379',
  AUTH_TOKENS: JSON.stringify([{ name: 'studio', token: LONG, scopes: ['image:generate'] }]),
}

/** The environment of the server's container in a scenario; undefined where there is no server. */
function environmentOf(scenario: string): Record<string, string> | undefined {
  const all = manifests(render(scenario))
  const deployment = all.find(({ kind, metadata }) => kind === 'Deployment' && metadata.name === 'mcp-server')
  if (!deployment) return undefined
  const pod = deployment.spec.template.spec
  const [server] = pod.containers
  const env: Record<string, string> = {
    ...all.find(({ kind, metadata }) => kind === 'ConfigMap' && metadata.name === 'mcp-server')!.data,
  }
  const mounted = new Set<string>(
    pod.volumes
      .flatMap(
        ({ projected }: { projected?: { sources: { secret: { items: { path: string }[] } }[] } }) =>
          projected?.sources ?? [],
      )
      .flatMap(({ secret }: { secret: { items: { path: string }[] } }) =>
        secret.items.map(({ path }) => path),
      ),
  )
  for (const { name, value } of server.env as { name: string; value: string }[]) {
    const secret = /^\/run\/secrets\/diffusers-mcp\/(.+)$/.exec(value)?.[1]
    if (secret === undefined) {
      env[name] = value
      continue
    }
    expect(mounted, `${name} names a file that no volume has`).toContain(secret)
    const file = join(folder, scenario, secret)
    mkdirSync(join(folder, scenario), { recursive: true })
    writeFileSync(file, SECRETS[secret] ?? LONG)
    env[name] = file
  }
  return env
}

const environments = Object.keys(SCENARIOS).flatMap((name) => {
  const env = environmentOf(name)
  return env ? [[name, env] as const] : []
})

describe('the server’s own checks pass', () => {
  test.each(environments)('in scenario %s', (_, env) => {
    const config: Config = loadConfig(env)
    expect(config.host).toBe('0.0.0.0')
    expect(config.metricsPort).toBe(9090)
    const grace = config.drainDelayMs + config.drainMs
    expect(grace).toBeGreaterThan(0)
  })

  test.each(environments)('and it knows every variable of scenario %s', (_, env) => {
    const known = new Set(Object.keys(SETTINGS).flatMap((name) => [name, `${name}_FILE`]))
    const unknown = Object.keys(env).filter((name) => !known.has(name) && !name.startsWith('DENO_'))
    expect(unknown).toEqual([])
  })
})
