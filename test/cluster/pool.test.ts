/** Servers before runtime pods that come, go and die under traffic: no call fails, and new pods are used soon. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { apply, clearNamespace, eventually, get, helm, kubectl, makeNamespace, VALUES } from './kube.ts'
import { simulatedKServe } from './simulated-kserve.ts'
import { createTraffic } from './under-traffic.ts'

const NAMESPACE = 'test-pool'
const TOKEN = 'token-of-the-pool-tests-0123456789'
const RUNTIME = 'drawn'
const DEPLOYMENT = `deployment/${RUNTIME}-predictor`
/** A picture takes half a second, and each pod draws one at a time. */
const LOAD = { callers: 6, steps: 25 }
/** For how long the cluster's DNS caches its own names. It comes on top of how often servers look. */
const DNS_SECONDS = Number(process.env.TEST_DNS_SECONDS ?? 0)
let traffic: ReturnType<typeof createTraffic>

const rolledOut = (what: string) => kubectl('-n', NAMESPACE, 'rollout', 'status', what, '--timeout=300s')

const SERVERS = {
  'one server': [],
  'two servers on Valkey': [
    ...['--set', 'server.replicas=2', '--set', 'server.publicUrl=http://mcp-server:8080'],
    ...['--set', 'valkey.mode=embedded', '--set', 'images.backend=valkey'],
  ],
}

interface Pod {
  readonly metadata: { readonly name: string; readonly deletionTimestamp?: string }
  readonly status: {
    readonly conditions?: readonly { type: string; status: string; lastTransitionTime: string }[]
  }
}
const pods = (): Pod[] =>
  get('-n', NAMESPACE, 'pods', '-l', `serving.kserve.io/inferenceservice=${RUNTIME}`).items
const staying = () => pods().filter(({ metadata }) => !metadata.deletionTimestamp)
const nameOf = ({ metadata }: Pod) => metadata.name
const scale = (replicas: number) => kubectl('-n', NAMESPACE, 'scale', DEPLOYMENT, `--replicas=${replicas}`)
const evaluate = (name: string, script: string) =>
  kubectl('-n', NAMESPACE, 'exec', name, '--', 'node', '--input-type=module', '-e', script)

/** What a runtime pod itself counts. */
const statsOf = (name: string): { started: number; finished: number; peak: number } =>
  JSON.parse(evaluate(name, `console.log(await (await fetch('http://127.0.0.1:8080/stats')).text())`))

describe.each(Object.entries(SERVERS))('%s', (_, values) => {
  beforeAll(() => {
    makeNamespace(NAMESPACE)
    const keys = { MCP_AUTH_TOKEN: TOKEN, IMAGE_URL_KEY: 'signing-key-of-the-pool-tests-0123456789' }
    apply({
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { name: 'keys', namespace: NAMESPACE },
      stringData: keys,
    })
    helm(
      ...['install', 'mcp-server', 'chart', '-n', NAMESPACE, '--values', VALUES, ...values],
      ...['--set', 'server.existingSecret=keys', '--set', 'runtime.mode=kserve'],
      ...['--set', `runtime.name=${RUNTIME}`, '--set', 'runtime.queue=100'],
    )
    apply(simulatedKServe({ namespace: NAMESPACE, name: RUNTIME }))
    rolledOut(DEPLOYMENT)
    rolledOut('deployment/mcp-server')
    traffic = createTraffic({ namespace: NAMESPACE, token: TOKEN })
  })
  afterAll(() => clearNamespace(NAMESPACE))

  test('from one pod to four and back: no call fails, and each new pod is used soon after it is ready', async () => {
    const [first] = staying().map(nameOf)
    const { pictures, failures } = await traffic.under('scaling', LOAD, async () => {
      scale(4)
      const usedAt = new Map<string, number>()
      await eventually('all four draw', () => {
        for (const { metadata } of staying())
          if (metadata.name !== first && !usedAt.has(metadata.name) && statsOf(metadata.name).started > 0)
            usedAt.set(metadata.name, Date.now())
        return usedAt.size === 3 || undefined
      })
      for (const one of staying()) {
        const ready = one.status.conditions?.find(({ type }) => type === 'Ready')
        const used = usedAt.get(nameOf(one))
        if (used === undefined) continue
        const after = used - Date.parse(ready!.lastTransitionTime)
        console.log(`${nameOf(one)}: used ${after} ms after it was ready`)
        expect(after).toBeLessThan(1000 * (15 + DNS_SECONDS))
      }
      for (const one of staying()) expect(statsOf(nameOf(one)).peak).toBe(1)
      scale(1)
      await eventually('one pod is left', () => pods().length === 1 || undefined, 180)
    })
    expect(failures).toEqual([])
    expect(pictures).toBeGreaterThan(50)
  })

  test('a rolling update of two pods fails no call', async () => {
    scale(2)
    rolledOut(DEPLOYMENT)
    const before = staying().map(nameOf)
    const { pictures, failures } = await traffic.under('rolling', LOAD, async () => {
      kubectl('-n', NAMESPACE, 'rollout', 'restart', DEPLOYMENT)
      rolledOut(DEPLOYMENT)
      await eventually('the old pods are gone', () => pods().length === 2 || undefined, 180)
    })
    expect(
      staying()
        .map(nameOf)
        .filter((name) => before.includes(name)),
    ).toEqual([])
    expect(failures).toEqual([])
    expect(pictures).toBeGreaterThan(20)
  })

  test('a pod that dies while it draws fails no call', async () => {
    scale(2)
    rolledOut(DEPLOYMENT)
    const { pictures, failures } = await traffic.under('dying', LOAD, async () => {
      const [victim] = staying().map(nameOf)
      kubectl('-n', NAMESPACE, 'delete', 'pod', victim!, '--grace-period=0', '--force')
      rolledOut(DEPLOYMENT)
    })
    expect(failures).toEqual([])
    expect(pictures).toBeGreaterThan(20)
  })
})
