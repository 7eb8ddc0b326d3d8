/** Runs a scenario with k6 on this machine. */
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { Advice } from '../../scripts/deploy/kube.ts'
import { tool } from '../../scripts/tools.ts'
import { type Lines, noLines, takeLine } from './lines.ts'

/** Settings of loadtest/lib/settings.ts by their names. */
export type Settings = Readonly<Record<string, string>>

/** What a report may show of them. */
export const withoutSecrets = ({ TOKEN: _, ...rest }: Settings): Settings => rest

/** Runs a scenario somewhere and returns what it told. @throws Advice when it did not get to its end. */
export type RunScenario = (scenario: string, settings: Settings) => Promise<Lines>

/** Before the script's path. Without an address there is no control port, of which two runs would fight for the same. */
export const K6_ARGUMENTS = [
  'run',
  '--quiet',
  '--no-usage-report',
  '--log-format=raw',
  '--no-color',
  '--address=',
]

/** k6 ends with this status when a threshold is crossed (errext/exitcodes in its source). */
const THRESHOLDS_CROSSED = 99

/** The pinned k6, or the one that the variable K6 names. What k6 prints besides its lines goes to stderr. */
export const runLocally: RunScenario = async (scenario, settings) => {
  const script = fileURLToPath(new URL(`../scenarios/${scenario}.ts`, import.meta.url))
  const child = spawn(process.env.K6 || tool('k6'), [...K6_ARGUMENTS, script], {
    // Settings, the token among them, as environment: arguments can be read by everybody on the machine.
    env: { ...process.env, ...settings, RECORDS: '1' },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const lines = noLines()
  const readers = [child.stdout, child.stderr].map(async (stream) => {
    for await (const line of createInterface({ input: stream }))
      if (!takeLine(lines, line) && line.trim() !== '') process.stderr.write(`${line}\n`)
  })
  const status = await new Promise<number | null>((resolve, reject) => {
    child.once('close', resolve)
    child.once('error', reject)
  })
  await Promise.all(readers)
  return finished(lines, status)
}

/** @throws Advice unless the run got to its end, with or without crossing thresholds. */
export function finished(lines: Lines, status: number | null): Lines {
  const crossed = lines.verdict?.some(({ ok }) => !ok) ?? false
  if (lines.verdict === undefined || (status !== 0 && !(status === THRESHOLDS_CROSSED && crossed)))
    throw new Advice(`k6 ended with ${status} before the run was over; its words are above.`)
  return lines
}
