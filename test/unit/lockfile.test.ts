/** The lock file must serve every platform and every registry. */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { ROOT } from '../support/process.ts'

interface Locked {
  version?: string
  resolved?: string
  optionalDependencies?: Record<string, string>
}
const packages: Record<string, Locked> = JSON.parse(readFileSync(`${ROOT}package-lock.json`, 'utf8')).packages

test('names no registry', () => {
  const resolved = Object.entries(packages).filter(([, locked]) => locked.resolved)
  expect(resolved).toEqual([])
})

test('has the binaries of every platform: npm drops those that its registry does not hold, and npm ci fails then', () => {
  const missing = Object.values(packages)
    .flatMap(({ optionalDependencies = {} }) => Object.keys(optionalDependencies))
    .filter((name) => !Object.keys(packages).some((path) => path.endsWith(`node_modules/${name}`)))
  expect(missing).toEqual([])
})
