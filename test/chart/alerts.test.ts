/** The alerts fire when they should, and only then: promtool runs them over series. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { stringify } from 'yaml'
import { createMetrics } from '../../src/telemetry/metrics.ts'
import { manifests, render } from './helm.ts'
import { promtool } from './promtool.ts'

const folder = mkdtempSync(join(tmpdir(), 'alerts-'))
afterAll(() => rmSync(folder, { recursive: true }))
beforeAll(() => {
  const rule = manifests(render('autoscaled')).find(({ kind }) => kind === 'PrometheusRule')!
  writeFileSync(join(folder, 'rules.yaml'), stringify(rule.spec))
})

/** Labels of a series of this release, and of a foreign one that must not count. */
const OURS = 'namespace="images",service="mcp-server"'
const FOREIGN = 'namespace="elsewhere",service="mcp-server"'
const RUNTIME = 'namespace="images",service="tiny-sd"'
const HEALTHY = [
  [`up{${OURS}}`, '1x120'],
  [`diffusers_runtime_ready{${RUNTIME}}`, '1x120'],
  [`diffusers_mcp_jobs_total{${OURS},target="tiny-sd",state="succeeded"}`, '0+6x120'],
] as const
const replica = (metric: string, name: string, server = 'a') =>
  `diffusers_mcp_replica_${metric}{${OURS},target="tiny-sd",replica="${name}",pod="${server}"}`
/** Two servers before two replicas of one slot each; each has one of them draw. The second is busy, idle or out. */
const pool = (second: { busy: number; out: number }) =>
  ['a', 'b'].flatMap(
    (server) =>
      [
        [replica('slots', 'one', server), '1x120'],
        [replica('in_flight', 'one', server), server === 'a' ? '1x120' : '0x120'],
        [replica('ejected', 'one', server), '0x120'],
        [replica('ready', 'one', server), '1x120'],
        [replica('slots', 'two', server), '1x120'],
        [replica('in_flight', 'two', server), server === 'b' ? `${second.busy}x120` : '0x120'],
        [replica('ejected', 'two', server), `${second.out}x120`],
        [replica('ready', 'two', server), `${1 - second.out}x120`],
      ] as const,
  )
const waiting = (jobs: number) =>
  [`diffusers_mcp_jobs_queued{${OURS},target="tiny-sd"}`, `${jobs}x120`] as const
const bucket = (le: string) => `diffusers_mcp_job_queue_seconds_bucket{${OURS},target="tiny-sd",le="${le}"}`

const CASES: Record<string, { series: readonly (readonly [string, string])[]; fires: readonly string[] }> = {
  'all is well': { series: HEALTHY, fires: [] },
  'a server of another namespace answers, ours does not': {
    series: [[`up{${FOREIGN}}`, '1x120'], ...HEALTHY.slice(1)],
    fires: ['DiffusersMcpDown'],
  },
  'all servers are down': {
    series: [[`up{${OURS}}`, '0x120'], ...HEALTHY.slice(1)],
    fires: ['DiffusersMcpDown'],
  },
  'one picture in four fails': {
    series: [...HEALTHY, [`diffusers_mcp_jobs_total{${OURS},target="tiny-sd",state="failed"}`, '0+2x120']],
    fires: ['DiffusersMcpGenerationsFail'],
  },
  'one picture in four comes too late': {
    series: [...HEALTHY, [`diffusers_mcp_jobs_total{${OURS},target="tiny-sd",state="expired"}`, '0+2x120']],
    fires: ['DiffusersMcpGenerationsFail'],
  },
  'cancelled pictures are no failures': {
    series: [...HEALTHY, [`diffusers_mcp_jobs_total{${OURS},target="tiny-sd",state="cancelled"}`, '0+6x120']],
    fires: [],
  },
  'jobs wait between 40 s and 80 s': {
    series: [...HEALTHY, [bucket('40'), '0x120'], [bucket('80'), '0+6x120'], [bucket('+Inf'), '0+6x120']],
    fires: ['DiffusersMcpQueueLong'],
  },
  'jobs wait less than 20 s': {
    series: [...HEALTHY, [bucket('20'), '0+6x120'], [bucket('40'), '0+6x120'], [bucket('+Inf'), '0+6x120']],
    fires: [],
  },
  'pictures are refused': {
    series: [
      ...HEALTHY,
      [`diffusers_mcp_jobs_refused_total{${OURS},target="tiny-sd",reason="overloaded"}`, '0+1x120'],
    ],
    fires: ['DiffusersMcpRefuses'],
  },
  'the job store is nearly full': {
    series: [
      ...HEALTHY,
      [`diffusers_mcp_job_store_used_bytes{${OURS},pod="a"}`, '190000000x120'],
      [`diffusers_mcp_job_store_max_bytes{${OURS},pod="a"}`, '200000000x120'],
    ],
    fires: ['DiffusersMcpJobStoreFills'],
  },
  'the job store has room': {
    series: [
      ...HEALTHY,
      [`diffusers_mcp_job_store_used_bytes{${OURS},pod="a"}`, '170000000x120'],
      [`diffusers_mcp_job_store_max_bytes{${OURS},pod="a"}`, '200000000x120'],
    ],
    fires: [],
  },
  'one caller asks for too much': {
    series: [
      ...HEALTHY,
      [`diffusers_mcp_jobs_refused_total{${OURS},target="tiny-sd",reason="rate_limited"}`, '0+1x120'],
    ],
    fires: [],
  },
  'jobs wait while a replica has a free slot': {
    series: [...HEALTHY, waiting(3), ...pool({ busy: 0, out: 0 })],
    fires: ['DiffusersMcpSlotsIdle'],
  },
  'jobs wait because every replica draws': {
    series: [...HEALTHY, waiting(3), ...pool({ busy: 1, out: 0 })],
    fires: [],
  },
  'a replica has a free slot and nobody waits': {
    series: [...HEALTHY, waiting(0), ...pool({ busy: 0, out: 0 })],
    fires: [],
  },
  'a replica is out, and jobs wait for the other one': {
    series: [...HEALTHY, waiting(3), ...pool({ busy: 0, out: 1 })],
    fires: ['DiffusersMcpReplicaOut'],
  },
  'a replica was out for a moment': {
    series: [...HEALTHY, [replica('ejected', 'one'), '0x87 1x3 0x30']],
    fires: [],
  },
  'the store of pictures is nearly full': {
    series: [
      ...HEALTHY,
      [`diffusers_mcp_images_bytes{${OURS},pod="a"}`, '95x120'],
      [`diffusers_mcp_images_max_bytes{${OURS},pod="a"}`, '100x120'],
    ],
    fires: ['DiffusersMcpPictureStoreFills'],
  },
  'the store of pictures has room': {
    series: [
      ...HEALTHY,
      [`diffusers_mcp_images_bytes{${OURS},pod="a"}`, '80x120'],
      [`diffusers_mcp_images_max_bytes{${OURS},pod="a"}`, '100x120'],
      [`diffusers_mcp_images_bytes{${FOREIGN},pod="a"}`, '100x120'],
      [`diffusers_mcp_images_max_bytes{${FOREIGN},pod="a"}`, '100x120'],
    ],
    fires: [],
  },
  'the runtime is not ready': {
    series: [...HEALTHY.slice(0, 1), [`diffusers_runtime_ready{${RUNTIME}}`, '0x120'], ...HEALTHY.slice(2)],
    fires: ['DiffusersRuntimeNotReady'],
  },
}
const ALERTS = [
  'DiffusersMcpDown',
  'DiffusersMcpGenerationsFail',
  'DiffusersMcpQueueLong',
  'DiffusersMcpRefuses',
  'DiffusersMcpJobStoreFills',
  'DiffusersMcpReplicaOut',
  'DiffusersMcpSlotsIdle',
  'DiffusersMcpPictureStoreFills',
  'DiffusersRuntimeNotReady',
]

test.each(Object.entries(CASES))('%s', (name, { series, fires }) => {
  const file = join(folder, `${name.replaceAll(/\W/g, '-')}.yaml`)
  // promtool compares labels and annotations; which alert fires is what counts here, so a query asks for that.
  const firing = fires.map((alert) => ({ labels: `{alertname="${alert}"}`, value: 1 }))
  const tests = {
    rule_files: ['rules.yaml'],
    evaluation_interval: '1m',
    tests: [
      {
        interval: '1m',
        input_series: series.map(([labels, values]) => ({ series: labels, values })),
        promql_expr_test: [
          {
            expr: 'count by (alertname) (ALERTS{alertstate="firing"})',
            eval_time: '90m',
            exp_samples: firing,
          },
        ],
      },
    ],
  }
  writeFileSync(file, stringify(tests))
  const { status, stdout, stderr } = spawnSync(promtool(), ['test', 'rules', file], { encoding: 'utf8' })
  expect(status, `${stdout}${stderr}`).toBe(0)
})

test('every alert of the chart has a case above that fires it', () => {
  const rule = manifests(render('autoscaled')).find(({ kind }) => kind === 'PrometheusRule')!
  const alerts = rule.spec.groups[0].rules.map(({ alert }: { alert?: string }) => alert).filter(Boolean)
  expect(alerts).toEqual(ALERTS)
  expect([...new Set(Object.values(CASES).flatMap(({ fires }) => fires))].sort()).toEqual([...ALERTS].sort())
})

test('the server has every metric that the rules name', () => {
  const metrics = createMetrics()
  metrics.observeQueue(() => [])
  metrics.observeReplicas(() => [])
  metrics.observeJobStore(() => undefined)
  metrics.observeImages(() => ({ bytes: 0, maxBytes: 0, removedEarly: 0 }))
  const known = metrics.registry.getMetricsAsArray().map(({ name }) => name)
  const named = render('autoscaled').match(/diffusers_mcp_\w+/g)!
  const unknown = named.filter((name) => !known.includes(name.replace(/_bucket$/, '')))
  expect(unknown).toEqual([])
})
