/**
 * What `npm pack` ships: JavaScript with declarations in dist/. Node strips no types under node_modules, and browsers
 * strip none at all.
 */
import { spawnSync } from 'node:child_process'
import { cpSync, globSync, rmSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
process.chdir(root)
rmSync('dist', { recursive: true, force: true })
const tsc = (...args) => {
  const { status } = spawnSync('node_modules/.bin/tsc', args, { stdio: 'inherit' })
  if (status !== 0) process.exit(status ?? 1)
}
tsc('--project', 'tsconfig.build.json')
// Only the client is there to be imported, so only it has declarations.
tsc(
  ...['--ignoreConfig', 'src/client/client.ts', '--declaration', '--emitDeclarationOnly', '--strict'],
  ...['--target', 'es2024', '--lib', 'es2024,dom', '--module', 'nodenext', '--outDir', 'dist/src/client'],
)
// Files that the sources read at run time.
for (const file of globSync('src/**/*.lua')) cpSync(file, `dist/${file}`)
cpSync('model/weights', 'dist/model/weights', { recursive: true })
