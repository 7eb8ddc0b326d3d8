/** The verbs of the guides, from nothing to a picture of the real Python runtime. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { dominantColour } from '../support/colours.ts'
import { draw, makeClient } from './draw.ts'
import { clearNamespace, get, helm, kubectl, run, VALUES } from './kube.ts'

const NAMESPACE = 'mcp-server-dev'
const K6_IMAGE = process.env.TEST_K6_IMAGE ?? 'localhost/k6:test'
const make = (verb: string, env: Record<string, string> = {}) =>
  run('make', [verb], { env: { ENV: 'dev', HELM_ARGS: `--values ${VALUES}`, TIMEOUT: '300', ...env } })

function clear() {
  helm('uninstall', 'tiny-sd', '--namespace', 'default', '--ignore-not-found', '--wait')
  clearNamespace(NAMESPACE)
}
beforeAll(clear)
afterAll(clear)

test('test-connectivity and check-services before anything is deployed say what to type', () => {
  expect(() => make('test-connectivity')).toThrow(
    /no deployment mcp-server in namespace mcp-server-dev[\s\S]*make deploy-dev/,
  )
  expect(() => make('check-services')).toThrow(
    /Nothing of mcp-server is in mcp-server-dev[\s\S]*make deploy-dev/,
  )
})

test('a dry run changes nothing', () => {
  const printed = make('deploy-dev', { ARGS: '--dry-run' })
  expect(printed).toContain('(dry run) $ helm upgrade --install mcp-server')
  expect(
    get('namespaces').items.map(({ metadata }: { metadata: { name: string } }) => metadata.name),
  ).not.toContain(NAMESPACE)
})

test('deploy-with-diffusers-dev brings up both, and says what it waits for', () => {
  const printed = make('deploy-with-diffusers-dev', { RUNTIME_MODE: 'deployment' })
  expect(printed).toMatch(/waiting for deployment tiny-sd/)
  expect(printed).toMatch(
    /deployment tiny-sd is ready after \d+ s[\s\S]*deployment mcp-server is ready after \d+ s/,
  )
})

test('the server’s namespace is under the restricted Pod Security level, and everything is read-only', () => {
  expect(get('namespace', NAMESPACE).metadata.labels['pod-security.kubernetes.io/enforce']).toBe('restricted')
  const [server] = get('-n', NAMESPACE, 'pods', '-l', 'app.kubernetes.io/component=server').items
  for (const { securityContext } of [...server.spec.containers, ...server.spec.initContainers])
    expect(securityContext).toMatchObject({ readOnlyRootFilesystem: true, allowPrivilegeEscalation: false })
})

test('test-connectivity', () => {
  expect(make('test-connectivity')).toMatch(/tiny-sd: ready at .* \(name, port and readiness\)[\s\S]*ok: /)
})

test('test-integration: a picture of the Python runtime', () => {
  const before = pictures()
  expect(make('test-integration')).toMatch(/ok: a picture of 256x256 from mcp-server-dev/)
  expect(pictures()).toBe(before + 1)
})

test('a red car is red, at the size of the model in the runtime’s image', async () => {
  makeClient(NAMESPACE)
  const before = pictures()
  const request = { prompt: 'a red car', seed: 7, num_inference_steps: 20, guidance_scale: 4 }
  const { job, png } = draw(NAMESPACE, request)
  expect(job).toMatchObject({ state: 'succeeded', target: 'tiny-sd', width: 64, height: 64 })
  expect(await dominantColour(png)).toBe('red')
  expect(pictures()).toBe(before + 1)
})

/** How many pictures the runtime's own metrics count. */
function pictures(): number {
  const script =
    'import urllib.request as r; print(r.urlopen("http://127.0.0.1:8888/metrics").read().decode())'
  const metrics = kubectl('-n', 'default', 'exec', 'deployment/tiny-sd', '--', 'python', '-c', script)
  return Number(/^diffusers_runtime_requests_total\{outcome="succeeded"\} (\S+)$/m.exec(metrics)?.[1] ?? 0)
}

test('check-services: a table', () => {
  const table = make('check-services')
  expect(table).toMatch(/^KIND +OBJECT +STATE$/m)
  expect(table).toMatch(/^Deployment +mcp-server-dev\/mcp-server +1 of 1 ready$/m)
  expect(table).toMatch(/^Deployment +default\/tiny-sd +1 of 1 ready$/m)
  expect(table).toContain('ok: everything is ready')
})

test('logs', () => {
  expect(make('logs')).toContain('"event":"listening"')
})

test('load-test: k6 as a Job beside the server, and a report of it', () => {
  const reports = mkdtempSync(join(tmpdir(), 'load-test-'))
  try {
    const printed = make('load-test', {
      ...{ SCENARIO: 'smoke', SETTINGS: 'PHASE_SECONDS=10 WIDTH=64 HEIGHT=64 STEPS=2' },
      ...{ K6_IMAGE, OUT: reports },
    })
    expect(printed).toContain('Passed: smoke.')
    const [figures] = readdirSync(reports).filter((name) => name.endsWith('.json'))
    const { passed, server } = JSON.parse(readFileSync(join(reports, figures!), 'utf8'))
    expect({ passed, server }).toEqual({ passed: true, server: `mcp-server in ${NAMESPACE}` })
  } finally {
    rmSync(reports, { recursive: true })
  }
  make('load-test', { SCENARIO: 'none' })
  expect(get('-n', NAMESPACE, 'jobs').items).toEqual([])
})

test('helm test', () => {
  const printed = helm('test', 'mcp-server', '--namespace', NAMESPACE, '--logs')
  expect(printed.match(/^ok {6}/gm)).toHaveLength(5)
  expect(printed).not.toContain('FAILED')
})

test('the same on Deno, with permissions by name', () => {
  const image = '--set server.engine=deno --set server.image.tag=test-deno'
  make('deploy-dev', { HELM_ARGS: `--values ${VALUES} ${image}` })
  const [server] = get(
    '-n',
    NAMESPACE,
    'pods',
    '-l',
    'app.kubernetes.io/component=server',
    '--field-selector=status.phase=Running',
  ).items.filter(({ metadata }: { metadata: { deletionTimestamp?: string } }) => !metadata.deletionTimestamp)
  expect(server.spec.containers[0].command).toContain('--allow-net')
  expect(server.spec.containers[0].command).not.toContain('--allow-all')
  expect(make('test-connectivity')).toContain('ok: ')
  expect(make('test-integration')).toContain('ok: a picture')
})

test('undeploy removes both', () => {
  make('undeploy', { RUNTIME: '1' })
  expect(get('-n', NAMESPACE, 'deployments').items).toEqual([])
  expect(get('-n', 'default', 'deployments', '-l', 'app.kubernetes.io/instance=tiny-sd').items).toEqual([])
})
