import { describe, expect, test } from 'vitest'
import { createCollector, parseExactJson } from './trino-result.ts'

describe('parseExactJson', () => {
  test.each<[string, unknown]>([
    ['9007199254740991', 9007199254740991],
    ['9007199254740992', '9007199254740992'],
    ['-9223372036854775808', '-9223372036854775808'],
    ['[{"a":9007199254740993}]', [{ a: '9007199254740993' }]],
    ['1.0E19', 1e19],
    ['1234567890123456.5', 1234567890123456.5],
    ['"9007199254740993"', '9007199254740993'],
    ['{"__proto__":9007199254740993}', JSON.parse('{"__proto__":"9007199254740993"}')],
  ])('%s', (text, value) => {
    expect(parseExactJson(text)).toEqual(value)
  })
})

describe('a collector', () => {
  const page = (...rows: unknown[][]) => ({ data: rows })

  test('takes rows up to the limit, and tells a cut from an end', () => {
    const collector = createCollector({ maxRows: 2, maxBytes: 100 })
    expect(collector.add(page([1], [2]))).toBe(true)
    expect(collector.result()).toMatchObject({ rows: [[1], [2]], cut: undefined })
    expect(collector.add(page([3]))).toBe(false)
    expect(collector.result()).toMatchObject({ rows: [[1], [2]], cut: 'rows' })
  })

  test('counts bytes of JSON, not characters', () => {
    const collector = createCollector({ maxRows: 10, maxBytes: 20 })
    expect(collector.add(page(['🦊🦊'], ['🦊🦊']))).toBe(false)
    expect(collector.result()).toMatchObject({ rows: [['🦊🦊']], cut: 'bytes' })
  })

  test('keeps the columns that only one of the pages names', () => {
    const collector = createCollector({ maxRows: 10, maxBytes: 100 })
    collector.add({ id: 'q', columns: [{ name: 'a', type: 'bigint' }] })
    collector.add({ id: 'q', columns: null, data: [[1]] })
    expect(collector.result()).toMatchObject({ queryId: 'q', columns: [{ name: 'a' }], rows: [[1]] })
  })
})
