/** `make images` and `make push-images`: by whichever of docker, podman and buildah is there. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { ROOT } from './environments.ts'
import { Advice } from './kube.ts'

const works = (command: string, args: readonly string[]) => spawnSync(command, args).status === 0

/** An image by its name and how it differs from a plain build of the repository's root. */
interface Image {
  readonly name: string
  readonly args: readonly string[]
}

/** The images by the tags that the chart's empty tags mean. */
export function imagesFor({
  registry,
  version,
}: {
  registry: string
  version: string
}): Record<string, Image> {
  const prefix = registry ? `${registry.replace(/\/+$/, '')}/` : ''
  const runtime = ['--file', `${ROOT}runtime/Dockerfile`]
  return {
    server: { name: `${prefix}diffusers-mcp:${version}`, args: ['--target', 'node'] },
    'server-deno': { name: `${prefix}diffusers-mcp:${version}-deno`, args: ['--target', 'deno'] },
    'runtime-cpu': {
      name: `${prefix}diffusers-runtime:${version}-cpu`,
      args: [...runtime, '--build-arg', 'TORCH=cpu'],
    },
    runtime: { name: `${prefix}diffusers-runtime:${version}`, args: runtime },
  }
}

interface ImageOptions {
  /** Empty: names without a registry, for kind and the like. */
  readonly registry: string
  /** Which of them; empty: all. */
  readonly only: readonly string[]
  readonly push: boolean
  readonly dryRun: boolean
}

/** Builds the images, or pushes them; what was built is loaded into kind where the context is one of kind's. */
export function buildImages({ registry, only, push, dryRun }: ImageOptions): void {
  const { version } = JSON.parse(readFileSync(`${ROOT}package.json`, 'utf8'))
  const all = imagesFor({ registry, version })
  const unknown = only.filter((name) => !(name in all))
  if (unknown.length > 0)
    throw new Advice(`ONLY=${unknown.join(',')}: there are ${Object.keys(all).join(', ')}.`)
  const engine = ['docker', 'podman', 'buildah'].find((name) =>
    works(name, [name === 'docker' ? 'info' : 'version']),
  )
  if (!engine && !dryRun)
    throw new Advice(
      'None of docker, podman and buildah works here.',
      'docker info    (is its daemon running?)',
    )
  if (push && !registry)
    throw new Advice('Where to? Name a registry.', 'make push-images REGISTRY=registry.example.com/team')

  const chosen = Object.entries(all).filter(([name]) => only.length === 0 || only.includes(name))
  for (const [, { name, args }] of chosen)
    execute(engine ?? 'docker', push ? ['push', name] : ['build', ...args, '--tag', name, ROOT], dryRun)
  if (push) return
  const context =
    spawnSync('kubectl', ['config', 'current-context'], { encoding: 'utf8' }).stdout?.trim() ?? ''
  const cluster = /^kind-(.+)$/.exec(context)?.[1]
  if (cluster)
    for (const [, { name }] of chosen)
      execute('kind', ['load', 'docker-image', name, '--name', cluster], dryRun)
}

function execute(command: string, args: readonly string[], dryRun: boolean): void {
  process.stdout.write(`${dryRun ? '(dry run) ' : ''}$ ${[command, ...args].join(' ')}\n`)
  if (dryRun) return
  if (spawnSync(command, args, { stdio: 'inherit' }).status !== 0)
    throw new Advice(`${command} ${args[0]} failed; its words are above.`)
}
