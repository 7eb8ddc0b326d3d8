/** Every message with which the chart refuses, and the YAML in it. */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { parse, stringify } from 'yaml'
import { CHART, SCENARIOS, template } from './helm.ts'

interface Case {
  readonly name: string
  readonly scenario?: string
  readonly values?: object
  readonly says?: readonly string[]
}
const cases: Case[] = parse(readFileSync(new URL('refusals.yaml', import.meta.url), 'utf8'))
const attempt = ({ scenario = 'default', values }: Case) =>
  template(SCENARIOS[scenario]!, values ? { values: stringify(values) } : {})

describe('what the chart refuses', () => {
  test.each(cases.filter(({ says }) => says).map((one) => [one.name, one] as const))('%s', (_, one) => {
    const { status, stderr } = attempt(one)
    expect(status).toBe(1)
    let from = 0
    for (const part of one.says!) {
      expect(stderr.slice(from)).toContain(part)
      from = stderr.indexOf(part, from) + part.length
    }
  })

  test.each(cases.filter(({ says }) => !says).map((one) => [one.name, one] as const))('%s', (_, one) => {
    expect(attempt(one)).toMatchObject({ status: 0 })
  })

  test('every message has a test of its own', () => {
    const rules = readFileSync(`${CHART}/templates/rules.yaml`, 'utf8')
    const messages = rules.match(/\bfail /g)!.length
    // "latest" refuses in a helper, for three images; three messages have a second case.
    expect(cases.filter(({ says }) => says)).toHaveLength(messages + 3 + 3)
  })

  test('a typo in a name is an error', () => {
    const { status, stderr } = template([], { values: 'server:\n  replica: 2\n' })
    expect(status).toBe(1)
    expect(stderr).toContain('replica')
  })
})
