/**
 * The tools of the chart and k6, at the versions that the go.mod files in tools/ pin: from the PATH where that version is
 * there, else built with Go and kept in the cache.
 */

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { cached } from './cache.ts'

interface Tool {
  /** The module whose version counts, as go.mod names it. */
  readonly module: string
  readonly package: string
  /** Folder of the go.mod. */
  readonly folder: string
  /** Its name on the PATH and what makes it print its version. Absent: always built. */
  readonly onPath?: readonly [name: string, ...args: string[]]
  /** Go variables that hold the version, which a build from the module does not set by itself. */
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
 * Path of a tool, built when that is due (minutes, progress on stderr).
 * @throws Error that says what is missing.
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
    process.stderr.write(`Building ${name} ${version}, once ...\n`)
    const flags = ['-s -w', ...(versionIn ? [`-X ${versionIn}=${version}`] : [])].join(' ')
    const { status, error } = spawnSync(
      'nice',
      ['-n', '10', 'go', 'build', '-mod=readonly', '-trimpath', '-ldflags', flags, '-o', path, main],
      { cwd: `${root}${folder}`, env: { ...process.env, CGO_ENABLED: '0' }, stdio: ['ignore', 2, 2] },
    )
    if (status !== 0)
      throw new Error(
        `${name} ${version} could not be built${error ? `: ${error.message}` : ''}. It needs Go 1.26 or newer; ` +
          'or put that version of it on the PATH.',
      )
  })
}

if (import.meta.main) for (const name of TOOL_NAMES) console.log(tool(name))
