/** The direction of imports is a lint rule. This shows that the rule refuses what it should, and nothing else. */
import { spawnSync } from 'node:child_process'
import { copyFileSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { ROOT } from '../support/process.ts'

const FORBIDDEN = [
  ['src/errors.ts', './jobs/job.ts'],
  ['src/auth/caller.ts', '../config/config.ts'],
  ['src/telemetry/log.ts', '../images/image.ts'],
  ['src/valkey/connection.ts', '../jobs/job.ts'],
  ['src/png.ts', './images/image.ts'],
  ['src/hash.ts', './config/config.ts'],
  ['src/retry.ts', './datasources/http.ts'],
  ['src/slots.ts', './runtimes/runtime.ts'],
  ['src/client/client.ts', '../errors.ts'],
  ['src/client/messages.ts', 'node:fs'],
  ['src/images/memory.ts', '../runtimes/runtime.ts'],
  ['src/images/s3/client.ts', '../../runtimes/runtime.ts'],
  ['src/runtimes/kserve.ts', '../images/image.ts'],
  ['src/jobs/memory/jobs.ts', '../../tools/tool.ts'],
  ['src/tools/image/generate.ts', '../../transports/rest/rest.ts'],
  ['src/transports/rest/rest.ts', '../../app.ts'],
] as const
const ALLOWED = [
  ['src/jobs/run.ts', '../images/image.ts'],
  ['src/images/shared.ts', '../valkey/connection.ts'],
  ['src/tools/image/list.ts', '../../jobs/job.ts'],
  ['src/transports/mcp.ts', '../tools/tool.ts'],
  ['src/images/disk.ts', '../errors.ts'],
  ['src/images/s3/s3.ts', '../image.ts'],
  ['src/runtimes/simulated/placeholder.ts', '../../png.ts'],
  ['src/app.ts', './transports/mcp.ts'],
] as const
const CIRCLE = [
  ['bench/one.ts', './two.ts'],
  ['bench/two.ts', './one.ts'],
] as const

let report: string

beforeAll(() => {
  const tree = mkdtempSync(join(tmpdir(), 'imports-'))
  copyFileSync(join(ROOT, 'biome.json'), join(tree, 'biome.json'))
  for (const [path, module] of [...FORBIDDEN, ...ALLOWED, ...CIRCLE]) {
    mkdirSync(dirname(join(tree, path)), { recursive: true })
    writeFileSync(join(tree, path), `import type { Thing } from '${module}'\n\nexport type Used = Thing\n`)
  }
  const biome = join(ROOT, 'node_modules/.bin/biome')
  const { stdout, stderr } = spawnSync(biome, ['lint', '--max-diagnostics=none'], {
    cwd: tree,
    encoding: 'utf8',
  })
  report = stdout + stderr
})

describe('imports point one way', () => {
  test.each(FORBIDDEN)('%s may not import %s', (path) => {
    expect(report).toMatch(new RegExp(`${path}:\\d+:\\d+ lint/style/noRestrictedImports`))
  })

  test.each(CIRCLE)('%s may not import %s, which imports it, not even a type', (path) => {
    expect(report).toMatch(new RegExp(`${path}:\\d+:\\d+ lint/suspicious/noImportCycles`))
  })

  test.each(ALLOWED)('%s may import %s', (path) => {
    expect(report).not.toContain(path)
  })
})

test('a backend is loaded only if it is configured, because it costs memory and time in every garbage collection', () => {
  const program = `await import('./src/parts.ts')
    const { createRequire } = await import('node:module')
    console.log(Object.keys(createRequire(import.meta.url).cache).join('\\n'))`
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '--eval', program], {
    cwd: ROOT,
    encoding: 'utf8',
  })
  expect(stdout).toContain('/node_modules/undici/')
  expect(stdout).not.toMatch(/\/node_modules\/(ioredis|bullmq)\//)
})
