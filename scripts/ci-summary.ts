/**
 * Counts the results that the suites of .ci/run left in the folder of reports. The last line is `N passed, N failed`,
 * followed by `, N skipped` if some were. A suite without a test report counts as one test, and so does a suite that
 * failed although its tests passed.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Lines of a failure's reason that the summary repeats. */
const REASON_LINES = 12

export interface Count {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
}

/** What a suite left: its exit status, what it printed, and the report of its test runner. */
export interface Tier {
  readonly status: number
  readonly log: string
  /** JSON of vitest or JUnit XML of pytest. */
  readonly report?: string
}

/** The lines in which a suite says what it skipped, and why. */
export function skippedLines(log: string): string[] {
  return log.match(/^Skipped: .+$/gm) ?? []
}

/** The counts of one suite. Without a report its last line `N passed, N failed` counts. */
export function countTier({ status, log, report }: Tier): Count {
  const { passed, failed, skipped } = report === undefined ? countLog(log) : countReport(report)
  const skips = skipped || skippedLines(log).length
  if (status !== 0 && failed === 0) return { passed, failed: 1, skipped: skips }
  if (passed + failed + skips === 0) return { passed: 1, failed: 0, skipped: 0 }
  return { passed, failed, skipped: skips }
}

function countLog(log: string): Count {
  const last = [...log.matchAll(/^(\d+) passed, (\d+) failed$/gm)].at(-1)
  return { passed: Number(last?.[1] ?? 0), failed: Number(last?.[2] ?? 0), skipped: 0 }
}

function countReport(report: string): Count {
  if (report.startsWith('{')) {
    const { numPassedTests, numFailedTests, numPendingTests } = JSON.parse(report)
    return { passed: numPassedTests, failed: numFailedTests, skipped: numPendingTests }
  }
  const suite = report.match(/<testsuite\b[^>]*>/)?.[0] ?? ''
  const number = (name: string) => Number(suite.match(new RegExp(`\\b${name}="(\\d+)"`))?.[1] ?? 0)
  const failed = number('failures') + number('errors')
  const skipped = number('skipped')
  return { passed: number('tests') - failed - skipped, failed, skipped }
}

/** What failed by its name, with the first lines of its reason, as the test runner reported it. */
export function failures({ log, report }: Tier): string[] {
  if (report === undefined) return log.match(/^FAILED\b.*$/gm) ?? []
  if (!report.startsWith('{'))
    return [...report.matchAll(/<testcase ([^>]*)>\s*<(?:failure|error)\b(?: message="([^"]*)")?/g)].map(
      ([, attributes = '', reason = '']) => told(attributes.match(/\bname="([^"]*)"/)?.[1] ?? '', reason),
    )
  const { testResults = [] } = JSON.parse(report) as VitestReport
  return testResults.flatMap(({ name, status, message, assertionResults }) => {
    const failed = assertionResults.filter((test) => test.status === 'failed')
    if (status === 'failed' && failed.length === 0) return [told(name, message)]
    return failed.map(({ fullName, failureMessages }) => told(`${name}: ${fullName}`, failureMessages[0]))
  })
}

/** The parts of vitest's JSON report that are read here. */
interface VitestReport {
  readonly testResults?: readonly {
    readonly name: string
    readonly status: string
    readonly message?: string
    readonly assertionResults: readonly {
      readonly status: string
      readonly fullName: string
      readonly failureMessages: readonly string[]
    }[]
  }[]
}

function told(name: string, reason = ''): string {
  const lines = reason.trim().split('\n').slice(0, REASON_LINES)
  return [name, ...lines.filter(Boolean).map((line) => `  ${line}`)].join('\n')
}

/** `N passed, N failed`, and `, N skipped` if there are any. */
export function formatCount({ passed, failed, skipped }: Count): string {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`
}

if (import.meta.main) {
  const folder = process.argv[2] as string
  const read = (path: string) => readFileSync(join(folder, path), 'utf8')
  let total: Count = { passed: 0, failed: 0, skipped: 0 }
  const names = readdirSync(folder).filter((name) => name.endsWith('.status'))
  for (const name of names.sort().map((file) => file.slice(0, -'.status'.length))) {
    const report = ['json', 'xml']
      .map((ending) => `${name}.${ending}`)
      .find((path) => existsSync(join(folder, path)))
    const status = Number(read(`${name}.status`))
    const log = read(`${name}.log`)
    const tier = { status, log, report: report && read(report) }
    const count = countTier(tier)
    console.log(`${name}: ${formatCount(count)}${status === 0 ? '' : ` (exit ${status})`}`)
    for (const line of skippedLines(log)) console.log(`  ${line}`)
    for (const failure of status === 0 ? [] : failures(tier))
      console.log(`  Failed: ${failure.replaceAll('\n', '\n  ')}`)
    total = {
      passed: total.passed + count.passed,
      failed: total.failed + count.failed,
      skipped: total.skipped + count.skipped,
    }
  }
  console.log(formatCount(total))
  process.exit(total.failed === 0 && total.passed > 0 ? 0 : 1)
}
