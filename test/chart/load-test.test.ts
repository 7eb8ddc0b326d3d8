/** The Job of `make load-test`, beside every server that the chart renders. */
import { describe, expect, test } from 'vitest'
import { stringify } from 'yaml'
import { schemaLocation } from '../../scripts/chart-schemas.ts'
import type { Deployment } from '../../scripts/deploy/checks.ts'
import { loadTestObjects } from '../../scripts/deploy/load-test.ts'
import { type Manifest, manifests, render, run, SCENARIOS } from './helm.ts'

const servers = Object.keys(SCENARIOS).flatMap((name) => {
  const objects = manifests(render(name))
  const deployment = objects.find(
    ({ kind, metadata }) =>
      kind === 'Deployment' && metadata.labels['app.kubernetes.io/component'] === 'server',
  )
  return deployment ? [{ name, objects, deployment }] : []
})
const load = (deployment: Manifest) =>
  loadTestObjects({
    ...{ namespace: 'images', scenario: 'stress', settings: { CAPACITY_PER_SECOND: '2' } },
    ...{ image: 'registry.example.com/k6:1', deployment: deployment as unknown as Deployment },
  })

test('there are servers with a token, without one, and on OpenShift', () => {
  expect(servers.map(({ name }) => name)).toEqual(
    expect.arrayContaining(['default', 'fixed', 'openshift', 'prod']),
  )
})

describe.each(servers)('$name', ({ objects, deployment }) => {
  const [scripts, job] = load(deployment) as [Manifest, Manifest]
  const { template } = job.spec
  const [container] = template.spec.containers

  test('the strict schemas accept it', () => {
    const args = ['-strict', '-summary', '-output', 'json', '-schema-location', schemaLocation()]
    const { stdout } = run('kubeconform', args, `${stringify(scripts)}---\n${stringify(job)}`)
    expect(JSON.parse(stdout)).toMatchObject({ summary: { valid: 2, invalid: 0, errors: 0, skipped: 0 } })
  })

  test('is within the restricted Pod Security level', () => {
    // https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
    expect(template.spec.securityContext).toMatchObject({
      ...{ runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
    })
    expect(container.securityContext).toMatchObject({
      ...{ allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] }, readOnlyRootFilesystem: true },
    })
    for (const volume of template.spec.volumes) expect(Object.keys(volume)[1]).toMatch(/^(configMap|secret)$/)
  })

  test('the server’s NetworkPolicy lets its pods in', () => {
    const policy = objects.find(
      ({ kind, spec }) =>
        kind === 'NetworkPolicy' && spec.podSelector.matchLabels['app.kubernetes.io/component'] === 'server',
    )
    const peers = policy?.spec.ingress.flatMap(({ from }: { from: unknown[] }) => from) ?? []
    const [peer] = peers.filter(
      ({ podSelector }: { podSelector?: { matchLabels?: Record<string, string> } }) =>
        podSelector?.matchLabels?.['app.kubernetes.io/component'] === 'test',
    )
    if (policy) expect(template.metadata.labels).toMatchObject(peer.podSelector.matchLabels)
  })

  test('reads the token where the server has one, and all scripts are where k6 looks for them', () => {
    const takesToken = JSON.stringify(deployment).includes('"key":"MCP_AUTH_TOKEN"')
    const env = container.env.map(({ name }: { name: string }) => name)
    expect(env.includes('TOKEN_FILE')).toBe(takesToken)
    expect(env).not.toContain('TOKEN')
    expect(container.command.at(-1)).toBe('/loadtest/scenarios/stress.ts')
    const [{ configMap }] = template.spec.volumes
    for (const { key, path } of configMap.items) {
      expect(scripts.data[key].length).toBeGreaterThan(100)
      expect(path).toMatch(/^(lib|scenarios|thresholds|workloads)\/[\w-]+\.ts$/)
    }
    expect(configMap.items.map(({ path }: { path: string }) => path)).toContain('scenarios/stress.ts')
  })
})
