/**
 * `npm run release:chart -- oci://REGISTRY/FOLDER [--plain-http]`: packages the chart and pushes it; a version that is
 * there already is never overwritten. Prints the digest, to sign and to install by.
 */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'
import { tool } from './tools.ts'

const CHART = fileURLToPath(new URL('../chart', import.meta.url))

/** Publishes the chart; resolves with its reference by digest. @throws Error that says what to do. */
export function releaseChart({
  repository,
  flags = [],
  chart = CHART,
}: {
  repository: string
  flags?: readonly string[]
  chart?: string
}): string {
  const { name, version } = parse(readFileSync(join(chart, 'Chart.yaml'), 'utf8'))
  const reference = `${repository.replace(/\/+$/, '')}/${name}`
  const helm = (args: readonly string[]) => spawnSync(tool('helm'), [...args, ...flags], { encoding: 'utf8' })

  const published = helm(['show', 'chart', reference, '--version', version])
  if (published.status === 0)
    throw new Error(
      `${reference} ${version} is published already. Raise the version in chart/Chart.yaml and package.json.`,
    )
  // Only a plain "not there" lets the push go on: a registry that cannot be asked might hold it.
  if (!/not found|NAME_UNKNOWN|MANIFEST_UNKNOWN|404/i.test(published.stderr))
    throw new Error(`${reference} cannot be asked whether it has ${version}: ${published.stderr.trim()}`)

  const folder = mkdtempSync(join(tmpdir(), 'release-'))
  try {
    const packaged = spawnSync(tool('helm'), ['package', chart, '--destination', folder], {
      encoding: 'utf8',
    })
    if (packaged.status !== 0) throw new Error(`helm package failed: ${packaged.stderr}`)
    const pushed = helm(['push', join(folder, `${name}-${version}.tgz`), repository])
    const digest = /Digest: (sha256:[0-9a-f]{64})/.exec(`${pushed.stdout}${pushed.stderr}`)?.[1]
    if (pushed.status !== 0 || !digest) throw new Error(`helm push failed: ${pushed.stderr}`)
    return `${reference}@${digest}`
  } finally {
    rmSync(folder, { recursive: true })
  }
}

if (import.meta.main) {
  const [repository = '', ...flags] = process.argv.slice(2)
  try {
    if (!repository.startsWith('oci://'))
      throw new Error('Where to? npm run release:chart -- oci://registry.example.com/charts')
    console.log(releaseChart({ repository, flags }))
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n`)
    process.exit(1)
  }
}
