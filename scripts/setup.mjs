// Runs before `npm start` and `npm test` on whatever Node there is (20 or newer), before any dependency exists:
// installs what package-lock.json asks for when that is due, with npm's progress on stderr. It is a script of its own
// (prestart, pretest, ...), because a shell that ran the system's node once would not look for the installed one.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const [major] = process.versions.node.split('.').map(Number)
if (major < 20) {
  process.stderr.write(
    `diffusers-mcp needs Node 20 or newer to set itself up; this is Node ${process.versions.node}.\n`,
  )
  process.exit(1)
}

const root = fileURLToPath(new URL('..', import.meta.url))
const lock = createHash('sha256')
  .update(readFileSync(`${root}package-lock.json`))
  .digest('hex')
const stamp = `${root}node_modules/.installed-lock`

if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== lock) {
  process.stderr.write('Installing dependencies (npm ci), once; this takes about a minute ...\n')
  // stdout may belong to the MCP protocol, so the child's output goes to stderr.
  const { status, error } = spawnSync('npm', ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: root,
    stdio: ['ignore', 2, 2],
    shell: process.platform === 'win32',
  })
  if (status !== 0) {
    process.stderr.write(
      `npm ci failed${error ? `: ${error.message}` : ''}. Fix what it says above and try again.\n`,
    )
    process.exit(1)
  }
  writeFileSync(stamp, lock)
}
