import { expect, test } from 'vitest'
import { escapeUnseen } from './log.ts'

test('control characters that JSON leaves are escaped in a line of the log, and read back as they were', () => {
  const said = { prompt: 'a\u009b31m\u0085\u007f\u2028\u202eb \u00e9東', key: 1 }
  const line = escapeUnseen(JSON.stringify(said))
  expect(line).toMatch(/^[^\p{Cc}\u2028\u202e]*$/u)
  expect(line).toContain('\\u009b')
  expect(line).toContain('é東')
  expect(JSON.parse(line)).toEqual(said)
})
