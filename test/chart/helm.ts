/** The chart as Helm renders it, for tests. */
import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseAllDocuments } from 'yaml'
import { KUBERNETES } from '../../scripts/chart-schemas.ts'
import { type ToolName, tool } from '../../scripts/tools.ts'

export const ROOT = fileURLToPath(new URL('../..', import.meta.url))
export const CHART = `${ROOT}chart`
/** Not "default": what every user has, linters warn about. */
const NAMESPACE = 'images'

export interface Manifest {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: {
    readonly name: string
    readonly namespace?: string
    readonly labels: Record<string, string>
  }
  // biome-ignore lint/suspicious/noExplicitAny: what stands here depends on the kind
  readonly [key: string]: any
}

/** Every set of values that is checked: the chart's scenarios and the overlays, with the files of each. */
export const SCENARIOS: Record<string, readonly string[]> = {
  ...Object.fromEntries(
    readdirSync(`${CHART}/ci`)
      .filter((name) => name !== 'prod-inputs-values.yaml')
      .map((name) => [name.replace('-values.yaml', ''), [`${CHART}/ci/${name}`]]),
  ),
  dev: [`${ROOT}values-dev.yaml`],
  staging: [`${ROOT}values-staging.yaml`],
  // What production leaves to the user is in a scenario of its own.
  prod: [`${ROOT}values-prod.yaml`, `${CHART}/ci/prod-inputs-values.yaml`],
}

/** Runs a tool of the chart; `input` is its standard input. */
export function run(name: ToolName, args: readonly string[], input = '') {
  const { status, stdout, stderr } = spawnSync(tool(name), args, {
    cwd: ROOT,
    input,
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
  })
  return { status, stdout, stderr, printed: `${stdout}${stderr}` }
}

export const valueArguments = (files: readonly string[]) => files.flatMap((file) => ['--values', file])

/** `helm template` of release mcp-server. @param values YAML on top of the files. */
export function template(files: readonly string[], { values = '', helm = 'helm' as ToolName } = {}) {
  const args = [
    ...['template', 'mcp-server', CHART, '--namespace', NAMESPACE, '--kube-version', KUBERNETES],
    ...valueArguments(files),
  ]
  return run(helm, values ? [...args, '--values', '-'] : args, values)
}

/** The text of a scenario. @throws Error with what Helm says when it does not render. */
export function render(scenario: string, helm: ToolName = 'helm'): string {
  const { status, stdout, stderr } = template(SCENARIOS[scenario]!, { helm })
  if (status !== 0) throw new Error(stderr)
  return stdout
}

export const manifests = (text: string): Manifest[] =>
  parseAllDocuments(text, { version: '1.1' })
    .map((document) => document.toJS())
    .filter(Boolean)
