/** A fake proxy in front of the real store, which makes trouble. */
import { createServer, request, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach } from 'vitest'
import type { Options, S3Suite } from './suite.ts'

/** What the proxy does with each request, before it may pass it on. */
type Trouble = (pass: () => void, drop: () => void, answer: (status: number, code: string) => void) => void

/** A new proxy before each test, which passes everything on until `trouble` is set. */
export function createTroublesomeProxy(suite: S3Suite) {
  let trouble: Trouble
  let seen: string[]
  let proxy: Server

  beforeEach(async () => {
    trouble = (pass) => pass()
    seen = []
    proxy = createServer((incoming, outgoing) => {
      const { method, url, headers } = incoming
      seen.push(`${method} ${url}`)
      const pass = () => {
        const { hostname, port } = new URL(suite.seaweedfs.endpoint)
        // The host that was signed is the proxy's: it has to reach the store as it is.
        const onward = request({ hostname, port, method, path: url, headers }, (response) => {
          outgoing.writeHead(response.statusCode!, response.headers)
          response.pipe(outgoing)
        })
        onward.on('error', () => outgoing.destroy())
        incoming.pipe(onward)
      }
      const answer = (status: number, code: string) => {
        incoming.resume()
        outgoing.writeHead(status, { location: '/elsewhere' }).end(`<Error><Code>${code}</Code></Error>`)
      }
      trouble(pass, () => outgoing.destroy(), answer)
    })
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
  })
  afterEach(async () => {
    proxy.closeAllConnections()
    await new Promise((resolve) => proxy.close(resolve))
  })

  return {
    set trouble(wanted: Trouble) {
      trouble = wanted
    },
    /** Method and URL of each request. */
    get seen() {
      return seen
    },
    set seen(requests: string[]) {
      seen = requests
    },
    /** A store that reaches the real one through the proxy. */
    openStore: (options: Partial<Options> = {}) =>
      suite.openStore({ endpoint: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`, ...options }),
  }
}
