/** `npm run loadtest`, as a person types it. */
import { execFile } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Result } from '../../loadtest/runner/result.ts'
import { ROOT, type Running, startServer } from '../support/process.ts'

let folder: string
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'loadtest-'))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

function loadtest(
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<{ status: number; printed: string }> {
  const main = [`${ROOT}node_modules/tsx/dist/cli.mjs`, `${ROOT}loadtest/runner/main.ts`, ...args]
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [...main, '--out', folder],
      { env: { ...process.env, ...env } },
      (_, stdout, stderr) => resolve({ status: child.exitCode ?? 1, printed: `${stdout}${stderr}` }),
    )
  })
}

const results = (scenario: string) =>
  readdirSync(folder)
    .filter((name) => name.endsWith(`${scenario}.json`))
    .map((name) => join(folder, name))
const read = (file: string) => JSON.parse(readFileSync(file, 'utf8')) as Result

test('smoke starts a server, writes a report and its figures; two runs can be compared', async () => {
  const { status, printed } = await loadtest(['smoke', '--service-ms', '100', '--set', 'PHASE_SECONDS=2'])
  expect(printed).toContain('Passed: smoke. Report: ')
  expect(status).toBe(0)
  const file = results('smoke').at(-1) as string
  const result = read(file)
  expect(result).toMatchObject({ passed: true, target: { name: 'simulated', concurrency: 4, queue: 8 } })
  expect(result.phases).toMatchObject([{ name: 'smoke', failed: 0, refused: 0 }])
  const page = readFileSync(file.replace('.json', '.html'), 'utf8')
  expect(page).toContain('Passed: all ')
  expect(page.match(/<svg /g)?.length).toBeGreaterThanOrEqual(4)
  expect(page).not.toMatch(/(src|href)=|url\(|@import/)

  const slower = join(folder, 'slower.json')
  const [phase] = result.phases
  writeFileSync(
    slower,
    JSON.stringify({
      ...result,
      phases: [{ ...phase, goodputPerSecond: (phase?.goodputPerSecond ?? 0) / 2 }],
    }),
  )
  const compared = await loadtest(['compare', file, slower])
  expect(compared.printed).toMatch(/smoke +pictures\/s +\S+ +\S+ +x 0\.50/)
  expect(compared.status).toBe(0)
})

test('several servers on one Valkey take turns', async () => {
  const several = ['--replicas', '2', '--service-ms', '100', '--set', 'PHASE_SECONDS=2']
  const { status, printed } = await loadtest(['smoke', ...several])
  expect(printed).toContain('2 servers on one Valkey')
  expect(status).toBe(0)
  const runs = results('smoke').map(read)
  expect(runs.find(({ server }) => server.includes('Valkey'))?.settings.BASE_URL).toMatch(
    /^http:\S+,http:\S+$/,
  )
})

test('replicas of the runtime are started, and the server tells how many', async () => {
  const args = ['smoke', '--runtimes', '3', '--service-ms', '100', '--set', 'PHASE_SECONDS=2']
  const { status, printed } = await loadtest(args)
  expect(printed).toContain('simulated, 3 replicas, concurrency 3, queue 8')
  expect(status).toBe(0)
})

test('capacity predicts, measures, and recommends', async () => {
  const { status, printed } = await loadtest([
    ...['capacity', '--concurrency', '2', '--queue', '4', '--service-ms', '500', '--set', 'PHASE_SECONDS=4'],
    ...['--rate', '20', '--deadline', '2'],
  ])
  // On a machine that others share a short run only shows how near the prediction came.
  console.log(printed)
  expect(status).toBe(0)
  expect(printed).toMatch(/sustained rate, at 2x +\d+\.\d+ pictures\/s +\d+\.\d+ pictures\/s/)
  expect(printed).toMatch(/p95 wait at 80 % +\d+\.\d+ s +\d+\.\d+ s/)
  expect(printed).toMatch(/20\.00 pictures\/s, each within 2\.000 s +\d+ +\d+ +\d+/)
})

test('what cannot work is said with what to do', async () => {
  expect(await loadtest(['smoke', '--url', 'http://127.0.0.1:1'])).toMatchObject({
    status: 1,
    printed: expect.stringContaining('port-forward'),
  })
  expect(await loadtest(['smoke', '--set', 'MIX=rest=90'])).toMatchObject({
    status: 1,
    printed: expect.stringContaining('MIX="rest=90": it must be percentages'),
  })
})

test('a token is used, and a limit per minute is not taken for capacity', async () => {
  const token = 'a-token-of-the-load-test'
  const server: Running = await startServer('node', {
    ...{ MCP_AUTH_TOKEN: token, RATE_LIMIT_PER_MINUTE: '10' },
    RUNTIMES: JSON.stringify([{ name: 'fast', kind: 'simulated', options: { msPerStep: 1 } }]),
  })
  try {
    const smoke = ['smoke', '--url', server.url, '--set', 'PHASE_SECONDS=2']
    expect((await loadtest(smoke)).printed).toContain('wants a token: set TOKEN, or TOKEN_FILE')
    const file = join(folder, 'token')
    writeFileSync(file, `${token}\n`)
    const { status, printed } = await loadtest(smoke, { TOKEN_FILE: file })
    expect(status).toBe(1)
    expect(printed).toMatch(
      /! The server refused calls by RATE_LIMIT_PER_MINUTE[\s\S]*FAILED limited_per_minute/,
    )
    expect(printed).not.toContain(token)
  } finally {
    await server.stop()
  }
})
