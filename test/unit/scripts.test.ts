import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { ROOT } from '../support/process.ts'

const { scripts } = JSON.parse(readFileSync(`${ROOT}package.json`, 'utf8')) as {
  scripts: Record<string, string>
}

test('what a fresh clone starts with is set up in a shell of its own: the first one remembers the system’s node', () => {
  // Scripts in bash call it themselves.
  const names = Object.keys(scripts).filter(
    (name) => !name.startsWith('pre') && !scripts[name]!.endsWith('.sh'),
  )
  expect(names).toContain('start')
  for (const name of names) {
    expect(scripts[`pre${name}`], name).toBe('node scripts/setup.mjs')
    expect(scripts[name]).not.toContain('setup.mjs')
  }
})
