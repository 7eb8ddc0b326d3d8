/** A TCP connection that sends what it is told and reads when it is told, as no HTTP client would. */
import { connect, type Socket } from 'node:net'

export interface RawConnection {
  readonly socket: Socket
  /** All bytes so far. */
  received(): Buffer
  /** Resolves when at least this many bytes came. @throws Error when the connection closes before. */
  atLeast(bytes: number): Promise<void>
  /** Resolves when the server has ended the connection, however it did. */
  readonly closed: Promise<void>
}

/** Connects and sends `text`. It never closes by itself, so the server has to. */
export async function rawConnection(url: string, text = ''): Promise<RawConnection> {
  const { hostname, port } = new URL(url)
  const socket = connect({ host: hostname, port: Number(port), allowHalfOpen: true })
  const chunks: Buffer[] = []
  let size = 0
  const more = new Set<() => void>()
  const tell = () => {
    for (const look of more) look()
  }
  socket.on('data', (chunk: Buffer) => {
    chunks.push(chunk)
    size += chunk.length
    tell()
  })
  socket.on('error', () => {})
  const closed = new Promise<void>((resolve) => {
    socket.once('end', resolve)
    socket.once('close', () => resolve())
  })
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve)
    socket.once('error', reject)
  })
  if (text) await new Promise<void>((resolve) => socket.write(text, () => resolve()))
  return {
    socket,
    closed,
    received: () => Buffer.concat(chunks),
    atLeast: (bytes) =>
      new Promise((resolve, reject) => {
        const look = () => {
          if (size >= bytes) resolve()
        }
        more.add(look)
        look()
        void closed.then(() => reject(new Error(`closed after ${size} of ${bytes} bytes`)))
      }),
  }
}

/** The text of a request. */
export function rawRequest(
  line: string,
  { headers = {}, body = '' }: { headers?: Record<string, string | number>; body?: string } = {},
): string {
  const all = { Host: '127.0.0.1', ...(body && { 'Content-Length': Buffer.byteLength(body) }), ...headers }
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`)
  return `${line} HTTP/1.1\r\n${lines.join('')}\r\n${body}`
}
