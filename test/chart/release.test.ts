/** The chart in a real registry: pushed once, installable by what was printed, never overwritten. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { releaseChart } from '../../scripts/release-chart.ts'
import { CHART, run } from './helm.ts'
import { startRegistry } from './registry.ts'

let registry: Awaited<ReturnType<typeof startRegistry>>
let repository: string
beforeAll(async () => {
  registry = await startRegistry()
  repository = `oci://${registry.address}/charts`
})
afterAll(() => registry?.stop())
const release = (chart = CHART) => releaseChart({ repository, flags: ['--plain-http'], chart })

test('is pushed, and what is printed can be pulled by its digest', () => {
  const reference = release()
  expect(reference).toMatch(/^oci:\/\/127\.0\.0\.1:\d+\/charts\/diffusers-mcp@sha256:[0-9a-f]{64}$/)
  const { stdout, printed } = run('helm', ['show', 'chart', reference, '--plain-http'])
  expect(stdout, printed).toContain('name: diffusers-mcp')
  const rendered = run('helm', ['template', 'mcp-server', reference, '--plain-http'])
  expect(rendered.stdout, rendered.stderr).toContain('kind: Deployment')
})

test('a version that is there is refused, also when the chart changed', () => {
  const folder = mkdtempSync(join(tmpdir(), 'changed-'))
  try {
    cpSync(CHART, folder, { recursive: true })
    writeFileSync(
      join(folder, 'values.yaml'),
      `${readFileSync(join(CHART, 'values.yaml'), 'utf8')}# changed\n`,
    )
    expect(() => release(folder)).toThrow(/0\.1\.0 is published already\. Raise the version/)
  } finally {
    rmSync(folder, { recursive: true })
  }
})

test('a registry that does not answer is no licence to push', () => {
  expect(() => releaseChart({ repository: 'oci://127.0.0.1:1/charts', flags: ['--plain-http'] })).toThrow(
    /cannot be asked whether it has/,
  )
})
