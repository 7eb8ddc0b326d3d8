/** Linters at zero findings on named renders; what is let through is listed with its reason. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { findings } from './checkov.ts'
import { render, run } from './helm.ts'

/** One render cannot please all: a number of replicas is wanted with and forbidden beside an autoscaler. */
const RENDERS = ['autoscaled', 'fixed', 'openshift'] as const

interface Exception {
  readonly check: string
  readonly reason: string
  readonly only?: (typeof RENDERS)[number]
  /** The one object that it is let through for. */
  readonly on?: string
}
const KUBE_SCORE: readonly Exception[] = [
  {
    check: 'container-image-pull-policy',
    reason: 'images are pinned by digest: a pull brings the same bytes',
  },
  {
    check: 'container-security-context-user-group-id',
    reason: 'OpenShift picks the user and refuses a pod that names one',
    only: 'openshift',
  },
]
const CHECKOV: readonly Exception[] = [
  { check: 'CKV_K8S_8', reason: 'the test ends by itself', on: 'Pod.images.mcp-server-test' },
  { check: 'CKV_K8S_9', reason: 'the test serves nobody', on: 'Pod.images.mcp-server-test' },
  {
    check: 'CKV_K8S_40',
    reason: 'OpenShift picks the user and refuses a pod that names one',
    only: 'openshift',
  },
]
const exceptions = (list: readonly Exception[], name: string) =>
  list.filter(({ only }) => only === undefined || only === name)

const folder = mkdtempSync(join(tmpdir(), 'linters-'))
afterAll(() => rmSync(folder, { recursive: true }))

test.each(RENDERS)('kube-score finds nothing in %s', (name) => {
  const ignore = exceptions(KUBE_SCORE, name).flatMap(({ check }) => ['--ignore-test', check])
  const args = ['score', '--output-format', 'ci', '--exit-one-on-warning', ...ignore, '-']
  const { printed } = run('kube-score', args, render(name))
  expect(printed).toContain('[OK]')
  expect(printed.split('\n').filter((line) => /^\[(WARNING|CRITICAL)\]/.test(line))).toEqual([])
})

test.each(RENDERS)(
  'checkov finds nothing in %s',
  (name) => {
    const file = join(folder, `${name}.yaml`)
    writeFileSync(file, render(name))
    const letThrough = exceptions(CHECKOV, name)
    const found = findings(file).filter(
      ({ check, resource }) =>
        !letThrough.some((one) => one.check === check && (one.on ?? resource) === resource),
    )
    expect(found).toEqual([])
  },
  120_000,
)
