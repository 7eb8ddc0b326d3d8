/** What holds for everything that the chart renders, with Helm 4 and 3. */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { parse } from 'yaml'
import { schemaLocation } from '../../scripts/chart-schemas.ts'
import { CHART, manifests, ROOT, render, run, SCENARIOS, valueArguments } from './helm.ts'

const names = Object.keys(SCENARIOS)

describe.each(names)('scenario %s', (name) => {
  test.each(['helm', 'helm3'] as const)('%s lint --strict finds nothing', (helm) => {
    const { status, printed } = run(helm, ['lint', '--strict', CHART, ...valueArguments(SCENARIOS[name]!)])
    expect(status, printed).toBe(0)
  })

  test('Helm 3 and 4 make the same of it', () => {
    const sorted = (text: string) =>
      manifests(text)
        .filter(({ kind }) => kind !== 'Secret') // random
        .map((manifest) => JSON.stringify(manifest))
        .sort()
    expect(sorted(render(name, 'helm3'))).toEqual(sorted(render(name, 'helm')))
  })

  test('the strict schemas of Kubernetes and of custom resources accept all of it', () => {
    const args = ['-strict', '-summary', '-output', 'json', '-schema-location', schemaLocation()]
    const { stdout } = run('kubeconform', args, render(name))
    const { resources = [], summary } = JSON.parse(stdout)
    expect(resources).toEqual([])
    expect(summary).toMatchObject({ invalid: 0, errors: 0, skipped: 0 })
    expect(summary.valid).toBeGreaterThan(5)
  })

  test('every object but the user’s own has the labels that the verbs select by', () => {
    for (const { metadata, kind } of manifests(render(name)).filter(({ kind }) => kind !== 'HTTPRoute'))
      expect({ kind, labels: metadata.labels }).toMatchObject({
        labels: {
          'helm.sh/chart': expect.stringMatching(/^diffusers-mcp-\d/),
          'app.kubernetes.io/name': 'diffusers-mcp',
          'app.kubernetes.io/instance': 'mcp-server',
          'app.kubernetes.io/component': expect.stringMatching(/^(server|runtime|valkey|test)$/),
          'app.kubernetes.io/version': expect.stringMatching(/^\d/),
          'app.kubernetes.io/managed-by': 'Helm',
          'app.kubernetes.io/part-of': 'diffusers-mcp',
        },
      })
  })

  test('no name is an object twice', () => {
    const ids = manifests(render(name)).map(
      ({ kind, metadata }) => `${kind} ${metadata.namespace}/${metadata.name}`,
    )
    expect(new Set(ids).size).toBe(ids.length)
  })
})

test('the chart is of the version that the server is of', () => {
  const { version } = JSON.parse(readFileSync(`${ROOT}package.json`, 'utf8'))
  expect(parse(readFileSync(`${CHART}/Chart.yaml`, 'utf8'))).toMatchObject({ version, appVersion: version })
})
