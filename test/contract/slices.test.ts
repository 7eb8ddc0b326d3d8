/** Large chunks of a stream, which the listener sends in slices. */
import { expect, test } from 'vitest'
import { commandFor, start } from '../support/process.ts'
import { rawConnection, rawRequest } from '../support/raw-connection.ts'

const CHUNK = 3_000_001
const CHUNKS = 5

test.each(['node', 'deno'] as const)('%s: a slow reader gets all of them, in their order', async (engine) => {
  const server = await start({ ...commandFor(engine, 'test/support/bounded-server.ts'), env: {} })
  const connection = await rawConnection(server.url, rawRequest('GET /chunks'))
  connection.socket.on('data', () => {
    connection.socket.pause()
    setImmediate(() => connection.socket.resume())
  })
  await connection.atLeast(CHUNK * CHUNKS)
  connection.socket.destroy()
  // What is not of a chunk frames it: digits and line breaks.
  const body = connection.received().filter((byte) => byte >= 1 && byte <= CHUNKS)
  const expected = Array.from({ length: CHUNKS }, (_, n) => Buffer.alloc(CHUNK, n + 1))
  expect(Buffer.compare(body, Buffer.concat(expected))).toBe(0)
  await server.stop()
})
