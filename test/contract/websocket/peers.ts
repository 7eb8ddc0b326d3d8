/** Peers by hand: upgrades that are only looked at, and frames that no WebSocket library would send. */
import { connect, type Socket } from 'node:net'
import { WebSocket as WsSocket } from 'ws'

export const wsUrl = ({ url }: { url: string }) => `${url.replace('http', 'ws')}/ws`

/** The status that an upgrade with these headers is answered with; 101 is closed again. */
export function upgradeStatus(url: string, headers: Record<string, string> = {}, protocols: string[] = []) {
  return new Promise<{ status: number; headers: Record<string, unknown> }>((resolve, reject) => {
    const socket = new WsSocket(url, protocols, { headers })
    socket.on('unexpected-response', (_, response) => {
      response.resume()
      resolve({ status: response.statusCode ?? 0, headers: response.headers })
    })
    socket.on('upgrade', (response) => {
      resolve({ status: 101, headers: response.headers })
      socket.on('open', () => socket.close())
    })
    socket.on('error', reject)
  })
}

/** A handshake by hand: for peers that do what no WebSocket library would. */
export function rawUpgrade(url: string, headers: Record<string, string> = {}): Promise<Socket> {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`)
  const { hostname, port, host } = new URL(url)
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname, () =>
      socket.write(
        `GET /ws HTTP/1.1\r\nHost: ${host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
          'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mcp\r\n' +
          `${lines.join('')}\r\n`,
      ),
    )
    socket.once('data', () => resolve(socket))
    socket.on('error', reject)
  })
}

/** A masked text frame (RFC 6455, section 5.2) with an all-zero mask. */
export function frame(text: string): Buffer {
  const body = Buffer.from(text)
  const length =
    body.length < 126
      ? Buffer.from([0x80 | body.length])
      : Buffer.from([0x80 | 126, body.length >> 8, body.length & 255])
  return Buffer.concat([Buffer.from([0x81]), length, Buffer.alloc(4), body])
}
