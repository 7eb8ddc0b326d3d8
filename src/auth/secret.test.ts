import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { fileSecret, fixedSecret } from './secret.ts'

const path = () => join(mkdtempSync(join(tmpdir(), 'secret-')), 'key')

test('a file is read again when it changed, looked at once a second', () => {
  const file = path()
  writeFileSync(file, 'first\n')
  let now = 0
  const secret = fileSecret(file, () => now)
  writeFileSync(file, 'the second')
  expect(secret.read()).toBe('first')
  now = 1000
  expect(secret.read()).toBe('the second')
})

test('a rotation in progress keeps the last good value', () => {
  const file = path()
  writeFileSync(file, 'first')
  let now = 0
  const secret = fileSecret(file, () => now)
  rmSync(file)
  now = 1000
  expect(secret.read()).toBe('first')
  writeFileSync(file, '')
  now = 2000
  expect(secret.read()).toBe('first')
  writeFileSync(file, 'the second')
  now = 3000
  expect(secret.read()).toBe('the second')
})

test('a missing or empty file fails at once', () => {
  const file = path()
  expect(() => fileSecret(file)).toThrow(/ENOENT/)
  writeFileSync(file, ' \n')
  expect(() => fileSecret(file)).toThrow(/is empty/)
})

test('a secret does not print itself', () => {
  expect(JSON.stringify({ secret: fixedSecret('open sesame') })).not.toContain('sesame')
})
