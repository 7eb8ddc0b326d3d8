/** docs/security.md names a test for every advisory; this shows that they are there. */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { ROOT } from '../support/process.ts'

const page = readFileSync(`${ROOT}docs/security.md`, 'utf8')
const rows = page
  .slice(page.indexOf('## Advisories'), page.indexOf('Beyond advisories'))
  .split('\n')
  .filter((line) => /^\| .*(CVE|GHSA)-/.test(line))
  .map((line) => line.split('|').map((cell) => cell.trim()))

test('the table has a row for every advisory', () => {
  expect(rows.length).toBeGreaterThanOrEqual(13)
})

test.each(rows.map(([, advisory = '', , guard = '', cell = '']) => [advisory, guard, cell]))(
  '%s has a guard and a test that exist',
  (advisory, guard, cell) => {
    if (guard.startsWith('does not apply')) return
    const files = [...cell.matchAll(/`([^`]+)`/g)].map((match) => match[1] as string)
    const name = cell.split(': ').at(-1) as string
    expect(files.length).toBeGreaterThan(0)
    const numbers = advisory.match(/(CVE-\d+-\d+|GHSA(-\w{4}){3})/g) as string[]
    for (const file of files) {
      const source = readFileSync(ROOT + file, 'utf8')
      const named = source.split('\n').filter((line) => line.includes(name))
      expect(named.length, `${file}: ${name}`).toBeGreaterThan(0)
      expect(named.some((line) => numbers.some((number) => line.includes(number)))).toBe(true)
    }
    for (const [, path = ''] of guard.matchAll(/`(src\/[^`]+)`/g)) readFileSync(ROOT + path)
  },
)
