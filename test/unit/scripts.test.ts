import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { ROOT } from '../support/process.ts'

const { scripts } = JSON.parse(readFileSync(`${ROOT}package.json`, 'utf8')) as {
  scripts: Record<string, string>
}

test('what a fresh clone starts with is set up in a shell of its own: the first one remembers the system’s node', () => {
  for (const name of [
    'start',
    'start:deno',
    'start:stdio',
    'start:simulated-runtime',
    'dev',
    'test',
    'test:runtime',
    'test:chart',
    'test:loadtest',
    'loadtest',
    'release:chart',
  ]) {
    expect(scripts[`pre${name}`]).toBe('node scripts/setup.mjs')
    expect(scripts[name]).not.toContain('setup.mjs')
  }
})
