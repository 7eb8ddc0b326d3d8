/**
 * `npm run test:conformance`: every scenario that the two protocol revisions require of a server, against the
 * product's middleware and transports on Node and Deno. The suite is installed outside the checkout, from a lock file
 * of its own: it brings more packages than the whole product. Last line: N passed, N failed.
 */
import { spawn, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CACHE } from '../../scripts/cache.ts'
import { commandFor, type Engine, ROOT, SIMULATED, start } from '../support/process.ts'

/** The scenarios that each revision scores; fewer would mean that the suite ran other ones. */
const REVISIONS = { '2026-07-28': 37, '2025-11-25': 30 } as const

/** The folder with the suite, installed when that is due. @throws Error when npm cannot. */
function installSuite(): string {
  const source = join(ROOT, 'test/conformance/suite')
  const key = createHash('sha256')
    .update(readFileSync(join(source, 'package-lock.json')))
    .digest('hex')
  const folder = join(CACHE, `conformance-${key.slice(0, 16)}`)
  const done = join(folder, '.complete')
  if (existsSync(done)) return folder
  mkdirSync(folder, { recursive: true })
  cpSync(source, folder, { recursive: true })
  const { status } = spawnSync('npm', ['ci', '--no-audit', '--no-fund', '--ignore-scripts'], {
    cwd: folder,
    stdio: ['ignore', 2, 2],
  })
  if (status !== 0) throw new Error(`npm ci of the conformance suite ended with ${status}.`)
  writeFileSync(done, '')
  return folder
}

/** What the suite prints: a line per scenario, then those that do not count. */
async function runSuite(suite: string, url: string, revision: string): Promise<string> {
  const child = spawn(
    process.execPath,
    [
      join(suite, 'node_modules/@modelcontextprotocol/conformance/dist/index.js'),
      ...['server', '--url', url, '--requirements', revision],
    ],
    { cwd: mkdtempSync(join(tmpdir(), 'conformance-')), stdio: ['ignore', 'pipe', 'inherit'] },
  )
  let printed = ''
  child.stdout.setEncoding('utf8').on('data', (chunk) => {
    printed += chunk
  })
  await new Promise((resolve) => child.once('close', resolve))
  return printed
}

/** The scored scenarios of a run, with whether each passed. */
function scoredOf(printed: string): Map<string, boolean> {
  const [summary = '', unscored = ''] = printed.split('=== SUMMARY ===')[1]?.split('Not scored for') ?? []
  const names = new Set([...unscored.matchAll(/^ +[✓✗] (\S+) \(/gm)].map(([, name]) => name))
  const lines = [...summary.matchAll(/^([✓✗]) (\S+): (\d+) passed/gm)]
  return new Map(
    lines
      .filter(([, , name]) => !names.has(name))
      // A scenario in which nothing was checked has shown nothing.
      .map(([, mark, name, checks]) => [name as string, mark === '✓' && checks !== '0']),
  )
}

const suite = installSuite()
let passed = 0
let failed = 0
for (const engine of ['node', 'deno'] satisfies Engine[]) {
  const server = await start({
    ...commandFor(engine, `test/conformance/server.${engine}.ts`),
    env: { PORT: '0', LOG_LEVEL: 'info', RATE_LIMIT_PER_MINUTE: '0', RUNTIMES: SIMULATED },
  })
  for (const [revision, expected] of Object.entries(REVISIONS)) {
    const printed = await runSuite(suite, `${server.url}/mcp`, revision)
    const scored = scoredOf(printed)
    const good = [...scored].filter(([, ok]) => ok).length
    passed += good
    failed += Math.max(expected, scored.size) - good
    console.log(`${engine}, ${revision}: ${good} of ${expected} scored scenarios`)
    if (good !== expected || scored.size !== expected) console.log(printed)
  }
  await server.stop()
}
console.log(`${passed} passed, ${failed} failed`)
process.exit(failed === 0 ? 0 : 1)
