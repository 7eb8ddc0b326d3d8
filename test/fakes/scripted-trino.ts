/**
 * A fake coordinator that answers as its test says, for what no healthy Trino does on demand. The protocol is that of
 * https://trino.io/docs/current/develop/client-protocol.html; a real Trino is in test/services/trino.test.ts.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface ScriptedTrino {
  readonly url: string
  /** Requests so far, as `POST /v1/statement`. */
  readonly seen: string[]
  readonly headers: IncomingMessage['headers'][]
  /** Answers each request; by default one row of 1. */
  answer: (request: IncomingMessage, response: ServerResponse) => void
  stop(): Promise<void>
}

export async function startScriptedTrino(): Promise<ScriptedTrino> {
  const server = createServer((request, response) => {
    request.resume()
    fake.seen.push(`${request.method} ${request.url}`)
    fake.headers.push(request.headers)
    fake.answer(request, response)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const fake: ScriptedTrino = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen: [],
    headers: [],
    answer: (_, response) => page(response, { data: [[1]] }),
    async stop() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
  return fake
}

/** Answers with a page of a result. */
export function page(response: ServerResponse, content: Record<string, unknown>): void {
  const columns = [{ name: 'a', type: 'bigint' }]
  response.writeHead(200, { 'content-type': 'application/json' })
  response.end(JSON.stringify({ id: 'q1', columns, stats: { state: 'RUNNING' }, ...content }))
}
