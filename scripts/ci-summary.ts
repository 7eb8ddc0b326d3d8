/**
 * Counts what the tiers of .ci/run left in the folder of reports and prints `N passed, N failed` as its last line.
 * A tier without a test report counts as one test, and so does a tier that failed although its tests passed.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

export interface Count {
  readonly passed: number
  readonly failed: number
}

/** The counts of one tier. @param report JSON of vitest, JUnit XML of pytest, or else what the tier printed. */
export function countTier({ status, report }: { status: number; report: string | undefined }): Count {
  const counted = report === undefined ? { passed: 0, failed: 0 } : countReport(report)
  if (status !== 0 && counted.failed === 0) return { ...counted, failed: 1 }
  if (counted.passed + counted.failed === 0) return { passed: 1, failed: 0 }
  return counted
}

function countReport(report: string): Count {
  if (report.startsWith('{')) {
    const { numPassedTests, numFailedTests } = JSON.parse(report)
    return { passed: numPassedTests, failed: numFailedTests }
  }
  const printed = [...report.matchAll(/^(\d+) passed, (\d+) failed$/gm)].at(-1)
  if (printed) return { passed: Number(printed[1]), failed: Number(printed[2]) }
  const suite = report.match(/<testsuite\b[^>]*>/)?.[0] ?? ''
  const number = (name: string) => Number(suite.match(new RegExp(`\\b${name}="(\\d+)"`))?.[1] ?? 0)
  const failed = number('failures') + number('errors')
  return { passed: number('tests') - failed - number('skipped'), failed }
}

if (import.meta.main) {
  const folder = process.argv[2] as string
  let total: Count = { passed: 0, failed: 0 }
  for (const file of readdirSync(folder)
    .filter((name) => name.endsWith('.status'))
    .sort()) {
    const name = file.slice(0, -'.status'.length)
    const path = ['json', 'xml', 'log'].map((ending) => join(folder, `${name}.${ending}`)).find(existsSync)
    const status = Number(readFileSync(join(folder, file), 'utf8'))
    const count = countTier({ status, report: path && readFileSync(path, 'utf8') })
    console.log(
      `${name}: ${count.passed} passed, ${count.failed} failed${status === 0 ? '' : ` (exit ${status})`}`,
    )
    total = { passed: total.passed + count.passed, failed: total.failed + count.failed }
  }
  console.log(`${total.passed} passed, ${total.failed} failed`)
  process.exit(total.failed === 0 && total.passed > 0 ? 0 : 1)
}
