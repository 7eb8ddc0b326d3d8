/**
 * The tools of the chart and k6, at the versions that the go.mod files in tools/ pin. A tool of that version on the PATH
 * is used; otherwise it is built with Go once and kept in the cache.
 */

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { cached } from './cache.ts'
import { Missing } from './missing.ts'

interface Tool {
  /** The module with the pinned version, as go.mod names it. */
  readonly module: string
  readonly package: string
  /** Folder of the go.mod. */
  readonly folder: string
  /** Its name on the PATH and the arguments that print its version. Without it the tool is always built. */
  readonly onPath?: readonly [name: string, ...args: string[]]
  /** The Go variable with the version. A build from the module does not set it by itself. */
  readonly versionIn?: string
}

const TOOLS = {
  helm: {
    module: 'helm.sh/helm/v4',
    package: 'helm.sh/helm/v4/cmd/helm',
    folder: 'tools',
    onPath: ['helm', 'version', '--template', '{{.Version}}'],
    versionIn: 'helm.sh/helm/v4/internal/version.version',
  },
  helm3: {
    module: 'helm.sh/helm/v3',
    package: 'helm.sh/helm/v3/cmd/helm',
    folder: 'tools',
    onPath: ['helm', 'version', '--template', '{{.Version}}'],
    versionIn: 'helm.sh/helm/v3/internal/version.version',
  },
  'helm-unittest': {
    module: 'github.com/helm-unittest/helm-unittest',
    package: 'github.com/helm-unittest/helm-unittest/cmd/helm-unittest',
    folder: 'tools',
  },
  kubeconform: {
    module: 'github.com/yannh/kubeconform',
    package: 'github.com/yannh/kubeconform/cmd/kubeconform',
    folder: 'tools',
    onPath: ['kubeconform', '-v'],
    versionIn: 'main.version',
  },
  'kube-score': {
    module: 'github.com/zegl/kube-score',
    package: 'github.com/zegl/kube-score/cmd/kube-score',
    folder: 'tools/kube-score',
    versionIn: 'main.version',
  },
  k6: {
    module: 'go.k6.io/k6',
    package: 'go.k6.io/k6',
    folder: 'tools/k6',
    onPath: ['k6', 'version'],
  },
} satisfies Record<string, Tool>

export type ToolName = keyof typeof TOOLS
export const TOOL_NAMES = Object.keys(TOOLS) as ToolName[]

const root = fileURLToPath(new URL('..', import.meta.url))

/** The version of a tool that go.mod pins, `v1.2.3`. */
export function pinnedVersion(name: ToolName): string {
  const { module, folder }: Tool = TOOLS[name]
  const version = readFileSync(`${root}${folder}/go.mod`, 'utf8').match(
    new RegExp(`^(?:require)?\\s+${module.replaceAll('.', '\\.')} (v\\S+)`, 'm'),
  )?.[1]
  if (!version) throw new Error(`${folder}/go.mod does not require ${module}`)
  return version
}

/**
 * Path of a tool. The first use builds it, which takes minutes, with progress on stderr.
 * @throws Missing without Go 1.26; Error if it cannot be built.
 */
export function tool(name: ToolName): string {
  const { package: main, folder, onPath, versionIn }: Tool = TOOLS[name]
  const version = pinnedVersion(name)
  if (onPath) {
    const [command, ...args] = onPath
    const { status, stdout } = spawnSync(command, args, { encoding: 'utf8' })
    if (status === 0 && `v${stdout.match(/\d+\.\d+\.\d+\S*/)?.[0]}` === version) return command
  }
  return cached(`tools/${name}-${version}`, (path) => {
    if (!hasGo())
      throw new Missing(
        `${name} ${version} needs Go 1.26 or newer to be built; or put that version on the PATH.`,
      )
    process.stderr.write(`Building ${name} ${version}, once ...\n`)
    const flags = ['-s -w', ...(versionIn ? [`-X ${versionIn}=${version}`] : [])].join(' ')
    const { status, error } = spawnSync(
      'nice',
      ['-n', '10', 'go', 'build', '-mod=readonly', '-trimpath', '-ldflags', flags, '-o', path, main],
      { cwd: `${root}${folder}`, env: { ...process.env, CGO_ENABLED: '0' }, stdio: ['ignore', 2, 2] },
    )
    if (status !== 0)
      throw new Error(
        `${name} ${version} could not be built${error ? `: ${error.message}` : ''}. Fix what Go says above, or put ` +
          'that version on the PATH.',
      )
  })
}

/** True if the go command can build these modules: with 1.26 or newer, or with 1.21 if it may fetch a newer Go. */
export function hasGo(): boolean {
  const { status, stdout } = spawnSync('go', ['env', 'GOVERSION', 'GOTOOLCHAIN'], {
    encoding: 'utf8',
    cwd: '/',
  })
  if (status !== 0) return false
  const [, minor = 0] = stdout.match(/go1\.(\d+)/) ?? []
  return Number(minor) >= 26 || (Number(minor) >= 21 && !/^local$/m.test(stdout))
}

if (import.meta.main) for (const name of TOOL_NAMES) console.log(tool(name))
