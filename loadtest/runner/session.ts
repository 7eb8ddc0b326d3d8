/** A load test from its settings to its report, wherever k6 runs. */
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Advice } from '../../scripts/deploy/kube.ts'
import { readSetting, SETTINGS, type SettingName } from '../lib/settings.ts'
import { type CapacityOptions, capacity, measureCapacity } from './capacity.ts'
import { type RunScenario, type Settings, withoutSecrets } from './k6.ts'
import { reportHtml } from './report.ts'
import { type Result, resultOf } from './result.ts'
import type { Target } from './target.ts'

/** Where reports go that nobody said a place for. */
export const REPORTS = fileURLToPath(new URL('../reports', import.meta.url))

const SCENARIOS = readdirSync(new URL('../scenarios', import.meta.url)).map((name) => name.replace('.ts', ''))

/** Settings that the command finds out by itself. */
const DERIVED: readonly SettingName[] = ['BASE_URL', 'RECORDS', 'CONCURRENCY']
const GIVEN = (Object.keys(SETTINGS) as SettingName[]).filter((name) => !DERIVED.includes(name))

/** Levels of the others are multiples of capacity. */
const WITHOUT_CAPACITY = ['smoke', 'capacity']

/** @throws Advice with the names that there are. */
export function checkScenario(name: string): void {
  if (!SCENARIOS.includes(name))
    throw new Advice(
      `There is no scenario ${JSON.stringify(name)}: there are ${SCENARIOS.join(', ')}, compare.`,
    )
}

/** The settings of the environment, and of NAME=VALUE pairs. @throws Advice for a name or value that there is not. */
export function settingsFrom(environment: NodeJS.ProcessEnv, pairs: readonly string[]): Settings {
  const settings = Object.fromEntries(
    GIVEN.flatMap((name) => (environment[name] ? [[name, environment[name] as string]] : [])),
  )
  for (const pair of pairs) {
    const [name = '', ...value] = pair.split('=')
    if (!GIVEN.includes(name as SettingName))
      throw new Advice(`${pair}: the settings are ${GIVEN.join(', ')}.`)
    settings[name] = value.join('=')
  }
  try {
    for (const name of Object.keys(settings)) readSetting(settings, name as SettingName)
  } catch (error) {
    throw new Advice((error as Error).message)
  }
  return settings
}

/** Runs a scenario: what it needs to know of the target and nobody said is measured first. */
export async function perform(scenario: string, options: CapacityOptions): Promise<Result> {
  const { run, settings, server, target } = options
  const { name, concurrency, queue, replicas } = target
  const pool = replicas === undefined ? '' : `${replicas} replicas, `
  process.stdout.write(`${server}: ${name}, ${pool}concurrency ${concurrency}, queue ${queue}\n`)
  if (scenario === 'capacity') return await capacity(options)
  const places = String(target.concurrency + target.queue)
  const all: Settings = WITHOUT_CAPACITY.includes(scenario)
    ? settings
    : {
        PLACES: places,
        ...settings,
        CAPACITY_PER_SECOND: settings.CAPACITY_PER_SECOND ?? (await firstMeasure(run, { settings, target })),
      }
  return resultOf(await run(scenario, all), { scenario, server, target, settings: withoutSecrets(all) })
}

/** Pictures for each level of a capacity that nobody told. */
const PICTURES = 10

async function firstMeasure(
  run: RunScenario,
  { settings, target }: { settings: Settings; target: Target },
): Promise<string> {
  const seconds = Math.max(5, Math.ceil((PICTURES * (target.estimateMs ?? 1000)) / 1000))
  process.stdout.write('CAPACITY_PER_SECOND is not set: measuring it first ...\n')
  const perSecond = await measureCapacity(run, { ...settings, PHASE_SECONDS: String(seconds) }, target)
  process.stdout.write(`${perSecond.toFixed(3)} pictures/s. Running ...\n`)
  return perSecond.toFixed(6)
}

/** Writes report and JSON, prints where, and the verdict; the exit status. */
export function writeReport(result: Result, folder: string): number {
  const { passed, scenario, startedAt, advice, thresholds } = result
  mkdirSync(folder, { recursive: true })
  const path = join(folder, `${startedAt.slice(0, 19).replaceAll(/[:T]/g, '-')}-${scenario}`)
  writeFileSync(`${path}.json`, `${JSON.stringify(result, undefined, 1)}\n`)
  writeFileSync(`${path}.html`, reportHtml(result))
  for (const line of advice) process.stdout.write(`! ${line}\n`)
  for (const { ok, metric, limit, value } of thresholds)
    if (!ok) process.stdout.write(`FAILED ${metric} ${limit}: ${value}\n`)
  process.stdout.write(
    `\n${passed ? 'Passed' : 'Failed'}: ${scenario}. Report: ${path}.html, figures: ${path}.json\n`,
  )
  return passed ? 0 : 1
}
