/** The metric of open descriptors: right, or absent where the engine may not count them. */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { commandFor, ROOT, SIMULATED, start, startServer } from '../support/process.ts'

const count = async (url: string) => {
  const text = await (await fetch(`${url}/metrics`)).text()
  return /^process_open_fds (\d+)$/m.exec(text)?.[1]
}

test.skipIf(process.platform !== 'linux').each(['node', 'deno'] as const)(
  '%s counts them',
  async (engine) => {
    const server = await startServer(engine, {})
    expect(Number(await count(server.url))).toBeGreaterThan(5)
    await server.stop()
  },
)

test('with the permissions of the image for Deno the metric is absent, not 0', async () => {
  const entryPoint = /^ENTRYPOINT (\["deno".*\])$/m.exec(readFileSync(`${ROOT}Dockerfile`, 'utf8'))?.[1]
  const args = (JSON.parse(entryPoint as string) as string[])
    .slice(1)
    .filter((arg) => arg !== '--cached-only')
  const { command } = commandFor('deno', '')
  const server = await start({ command, args, env: { PORT: '0', RUNTIMES: SIMULATED } })
  expect(await count(server.url)).toBeUndefined()
  await server.stop()
})
