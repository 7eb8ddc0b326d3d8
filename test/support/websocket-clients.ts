/** Everything that speaks to `/ws`, behind one interface. */
import { Client as CurrentClient } from '@modelcontextprotocol/client'
import { Client as OldClient } from '@modelcontextprotocol/sdk/client/index.js'
import { WebSocketClientTransport } from '@modelcontextprotocol/sdk/client/websocket.js'
import { WebSocket as WsSocket } from 'ws'
import { MCPWebSocketClient } from '../../src/client/client.ts'
import { openPlainSocket, type PlainSocket } from './plain-socket.ts'

export interface SocketClient {
  listTools(): Promise<readonly { name: string }[]>
  /** The tool's structured answer. */
  call(
    name: string,
    args: Record<string, unknown>,
    options?: { signal?: AbortSignal; onProgress?: (progress: { message?: string }) => void },
  ): Promise<Record<string, unknown>>
  close(): Promise<void> | void
}

type ConnectSocket = (url: string) => Promise<SocketClient>

/** The two SDKs' clients differ in the place of the options only. */
function ofSdk(client: OldClient | CurrentClient): SocketClient {
  return {
    listTools: async () => (await client.listTools()).tools,
    async call(name, args, { signal, onProgress } = {}) {
      const options = {
        ...(signal && { signal }),
        ...(onProgress && { onprogress: onProgress as never }),
      }
      const params = { name, arguments: args }
      const result =
        client instanceof OldClient
          ? await client.callTool(params, undefined, options)
          : await client.callTool(params, options)
      return result.structuredContent as Record<string, unknown>
    },
    close: () => client.close(),
  }
}

function ofPlain(plain: PlainSocket): SocketClient {
  let id = 100
  return {
    listTools: async () => (await plain.request('tools/list')).tools as { name: string }[],
    async call(name, args, { signal, onProgress } = {}) {
      id += 1
      const requestId = id
      const cancelled = new Promise<never>((_, reject) =>
        signal?.addEventListener('abort', () => {
          plain.send({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId } })
          reject(signal.reason)
        }),
      )
      const result = plain.request(
        'tools/call',
        { name, arguments: args },
        { id: requestId, ...(onProgress && { onProgress }) },
      )
      // Closing the socket ends what nobody answers any more.
      result.catch(() => {})
      return (await Promise.race([result, cancelled])).structuredContent as Record<string, unknown>
    },
    close: () => plain.socket.close(),
  }
}

const INFO = { name: 'test', version: '1' }

export const SOCKET_CLIENTS: Record<string, ConnectSocket> = {
  async 'old SDK'(url) {
    const client = new OldClient(INFO)
    await client.connect(new WebSocketClientTransport(new URL(url)) as never)
    return ofSdk(client)
  },
  async 'current SDK over the old transport, 2026-07-28'(url) {
    const client = new CurrentClient(INFO, { versionNegotiation: { mode: { pin: '2026-07-28' } } })
    await client.connect(new WebSocketClientTransport(new URL(url)) as never)
    return ofSdk(client)
  },
  async MCPWebSocketClient(url) {
    const client = new MCPWebSocketClient({ url })
    await client.connect()
    return {
      listTools: () => client.listTools(),
      call: async (name, args, options) => (await client.executeTool(name, args, options)).data,
      close: () => client.close(),
    }
  },
  async 'a plain ws socket'(url) {
    return ofPlain(await openPlainSocket(url, { Socket: WsSocket as never }))
  },
  async 'a plain ws socket without subprotocol'(url) {
    return ofPlain(await openPlainSocket(url, { Socket: WsSocket as never, protocols: [] }))
  },
}
