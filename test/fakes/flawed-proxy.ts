/**
 * A proxy that makes a good server bad in one way, for tests of the load tests: each flaw is one that a test which looks
 * at HTTP statuses and closed loops alone does not see. Connections that close without an answer are what a restarting
 * server or a load balancer's reset looks like (RFC 9112, 9.3.1); errors as 200 are what MCP does by specification where
 * `isError` is forgotten; waiting without bound is what a server without admission control does (docs/load-testing.md).
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export type Flaw = 'drops calls' | 'errors as 200' | 'no admission'

/** Every n-th call is dropped. */
const DROP_EVERY = 3
/** Pause before a refused call asks again, in milliseconds. */
const AGAIN_MS = 50

export interface FlawedProxy {
  readonly url: string
  stop(): Promise<void>
}

/** Starts the proxy in front of `url`, on a free port of 127.0.0.1. Plain HTTP only, no upgrades. */
export async function startFlawedProxy({ url, flaw }: { url: string; flaw: Flaw }): Promise<FlawedProxy> {
  let calls = 0
  const server = createServer((request, response) => {
    handle(request, response).catch(() => request.socket.destroy())
  })

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk)
    const isCall = request.method === 'POST'
    calls += Number(isCall)
    if (flaw === 'drops calls' && isCall && calls % DROP_EVERY === 0) {
      request.socket.destroy()
      return
    }
    const { host: _, connection: __, 'content-length': ___, ...headers } = request.headers
    const ask = () =>
      fetch(`${url}${request.url}`, {
        method: request.method as string,
        headers: headers as Record<string, string>,
        ...(chunks.length > 0 ? { body: Buffer.concat(chunks) } : {}),
      })
    let answer = await ask()
    let body = Buffer.from(await answer.arrayBuffer())
    while (flaw === 'no admission' && body.includes('"code":"overloaded"') && !request.socket.destroyed) {
      await new Promise((resolve) => setTimeout(resolve, AGAIN_MS))
      answer = await ask()
      body = Buffer.from(await answer.arrayBuffer())
    }
    const retryAfter = answer.headers.get('retry-after')
    const hides = flaw === 'errors as 200'
    response.writeHead(hides ? 200 : answer.status, {
      'content-type': answer.headers.get('content-type') ?? 'application/json',
      ...(retryAfter === null ? {} : { 'retry-after': retryAfter }),
    })
    response.end(
      hides ? body.toString('latin1').replace('"isError":true', '"isError":false') : body,
      'latin1',
    )
  }

  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async stop() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
