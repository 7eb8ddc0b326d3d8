/** What the Job of `make load-test` runs in the cluster: its command, its environment and its files, here. */
import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { noLines, takeLine } from '../../loadtest/runner/lines.ts'
import { loadTestObjects } from '../../scripts/deploy/load-test.ts'
import { tool } from '../../scripts/tools.ts'
import { startServer } from '../support/process.ts'

test('passes against a server with a token, from nothing but the files of its ConfigMap', async () => {
  const token = 'a-token-of-the-server-in-the-cluster'
  const folder = mkdtempSync(join(tmpdir(), 'job-'))
  const server = await startServer('node', {
    ...{ MCP_AUTH_TOKEN: token, RATE_LIMIT_PER_MINUTE: '0' },
    RUNTIMES: JSON.stringify([{ name: 'fast', kind: 'simulated', options: { msPerStep: 1 } }]),
  })
  try {
    const [scripts, job] = loadTestObjects({
      ...{ namespace: 'images', scenario: 'smoke', image: 'registry.example.com/k6:1' },
      settings: { PHASE_SECONDS: '2', BASE_URL: server.url },
      deployment: {
        status: {},
        spec: {
          template: {
            spec: {
              volumes: [
                {
                  name: 'secrets',
                  projected: {
                    sources: [{ secret: { name: 'mcp-server', items: [{ key: 'MCP_AUTH_TOKEN' }] } }],
                  },
                },
              ],
            },
          },
        },
      },
      // biome-ignore lint/suspicious/noExplicitAny: objects of Kubernetes as they are
    }) as any[]
    const { containers, volumes } = job.spec.template.spec
    const [{ command, env, volumeMounts }] = containers
    const [{ configMap }] = volumes
    const mount = volumeMounts.find(({ name }: { name: string }) => name === 'scripts').mountPath
    for (const { key, path } of configMap.items) {
      mkdirSync(dirname(join(folder, path)), { recursive: true })
      writeFileSync(join(folder, path), scripts.data[key])
    }
    writeFileSync(join(folder, 'token'), token)
    const variables = Object.fromEntries(env.map(({ name, value }: Record<string, string>) => [name, value]))
    expect(variables.TOKEN_FILE).toBe('/run/secrets/diffusers-mcp/MCP_AUTH_TOKEN')

    const [, ...args] = command as string[]
    const { status, stdout, stderr } = spawnSync(
      tool('k6'),
      args.map((arg) => arg.replace(mount, folder)),
      { env: { ...variables, TOKEN_FILE: join(folder, 'token') }, encoding: 'utf8' },
    )
    const lines = noLines()
    for (const line of `${stdout}\n${stderr}`.split('\n')) takeLine(lines, line)
    expect({ status, crossed: lines.verdict?.filter(({ ok }) => !ok), stderr }).toMatchObject({
      ...{ status: 0, crossed: [] },
    })
    expect(lines.calls.length).toBeGreaterThan(4)
  } finally {
    await server.stop()
    rmSync(folder, { recursive: true })
  }
})
