/** `npm run loadtest -- SCENARIO [options]`: runs a load test and writes its report. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { Advice } from '../../scripts/deploy/kube.ts'
import { readSetting } from '../lib/settings.ts'
import { tableText } from './capacity.ts'
import { runLocally, type Settings } from './k6.ts'
import { startLocalServers } from './local-servers.ts'
import { comparisonHtml, comparisonTable } from './report.ts'
import type { Result } from './result.ts'
import { checkScenario, perform, REPORTS, settingsFrom, writeReport } from './session.ts'
import { readTarget } from './target.ts'

const HELP = `npm run loadtest -- SCENARIO [options]
npm run loadtest -- compare FIRST.json SECOND.json [--out FOLDER]

Scenarios: smoke, load, stress, spike, soak, websocket, mixed, and capacity, which measures, predicts and checks.
Without --url a server with simulated pictures is started here.

  --url URL[,URL]      the server, or its replicas; TOKEN or TOKEN_FILE in the environment is the bearer token
  --set NAME=VALUE     a setting of docs/load-testing.md, such as PHASE_SECONDS=10; the environment's count too
  --out FOLDER         where the report goes (default: loadtest/reports)
  --rate N             capacity: the rate to size for, in pictures per second
  --deadline SECONDS   capacity: how long a picture may take
  --runtimes N         capacity: replicas of the runtime that are measured (default: as the server tells them, else 1)
For a server that is started here:
  --replicas N         servers; more than one share a Valkey (default: 1)
  --runtimes N         replicas of the runtime, which the target knows by address (default: none, the server draws)
  --concurrency N      pictures at once (default: 4; one for each of --runtimes)
  --queue N            pictures that may wait (default: 8)
  --service-ms N       how long a picture takes (default: 500)
`

async function main(args: readonly string[]): Promise<number> {
  const { values, positionals } = parseArgs({
    args: [...args],
    allowPositionals: true,
    options: {
      url: { type: 'string' },
      set: { type: 'string', multiple: true, default: [] },
      out: { type: 'string', default: REPORTS },
      rate: { type: 'string' },
      deadline: { type: 'string' },
      runtimes: { type: 'string' },
      replicas: { type: 'string', default: '1' },
      concurrency: { type: 'string' },
      queue: { type: 'string', default: '8' },
      'service-ms': { type: 'string', default: '500' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  const [scenario, ...rest] = positionals
  if (values.help || scenario === undefined) {
    process.stdout.write(HELP)
    return values.help ? 0 : 1
  }
  if (scenario === 'compare') return compare(rest, values.out)
  if (rest.length > 0) throw new Advice(`One scenario at a time, not also ${rest.join(' ')}.\n\n${HELP}`)
  checkScenario(scenario)
  const settings = settingsFrom(process.env, values.set)
  const token = readToken(settings)
  const runtimes = values.runtimes === undefined ? undefined : wholeNumber('--runtimes', values.runtimes)
  const numbers = {
    runtimes,
    replicas: wholeNumber('--replicas', values.replicas),
    concurrency: wholeNumber('--concurrency', values.concurrency ?? String(runtimes ?? 4)),
    queue: wholeNumber('--queue', values.queue),
    serviceMs: wholeNumber('--service-ms', values['service-ms']),
  }
  const local = values.url ? undefined : await startLocalServers({ ...numbers, data: scenario === 'mixed' })
  try {
    const urls = values.url ? readSetting({ BASE_URL: values.url }, 'BASE_URL') : (local?.urls ?? [])
    const target = await readTarget({ url: urls[0] as string, token, model: settings.MODEL })
    const server = local?.description ?? urls.join(', ')
    const result = await perform(scenario, {
      ...{ run: runLocally, settings: { ...settings, BASE_URL: urls.join(',') }, server, target },
      ratePerSecond: optionalNumber('--rate', values.rate),
      deadlineSeconds: optionalNumber('--deadline', values.deadline),
      replicas: runtimes,
    })
    return writeReport(result, values.out)
  } finally {
    await local?.stop()
  }
}

function compare(files: readonly string[], folder: string): number {
  if (files.length !== 2) throw new Advice(`compare takes two JSON files of runs.\n\n${HELP}`)
  const [a, b] = files.map((file) => JSON.parse(readFileSync(file, 'utf8')) as Result) as [Result, Result]
  if (a.scenario !== b.scenario)
    throw new Advice(`The runs are of different scenarios: ${a.scenario} and ${b.scenario}.`)
  process.stdout.write(`${tableText(comparisonTable(a, b))}\n`)
  mkdirSync(folder, { recursive: true })
  const path = join(folder, `compare-${a.scenario}.html`)
  writeFileSync(path, comparisonHtml(a, b))
  process.stdout.write(`\nReport: ${path}\n`)
  return 0
}

const readToken = ({ TOKEN, TOKEN_FILE }: Settings) =>
  TOKEN ?? (TOKEN_FILE ? readFileSync(TOKEN_FILE, 'utf8').trim() : undefined)

function optionalNumber(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const value = Number(text)
  if (!(value > 0)) throw new Advice(`${name} ${text}: it must be a number above 0.`)
  return value
}

function wholeNumber(name: string, text: string): number {
  if (!/^\d+$/.test(text)) throw new Advice(`${name} ${text}: it must be a whole number.`)
  return Number(text)
}

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  const { code, message, stack } = error as NodeJS.ErrnoException
  const known = error instanceof Advice || code?.startsWith('ERR_PARSE_ARGS')
  process.stderr.write(`${known ? message : stack}\n`)
  process.exitCode = 1
}
