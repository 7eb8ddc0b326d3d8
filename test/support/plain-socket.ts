/** JSON-RPC over a bare WebSocket, whichever engine's or package's: what a client without any SDK does. */

export interface PlainSocket {
  readonly socket: WebSocket
  /** Every message so far. */
  readonly messages: Record<string, unknown>[]
  send(message: Record<string, unknown> | string): void
  /** The result of a request; progress notifications go to `onProgress`. @throws Error with the error's message. */
  request(
    method: string,
    params?: Record<string, unknown>,
    options?: { id?: number; onProgress?: (params: Record<string, unknown>) => void },
  ): Promise<Record<string, unknown>>
  /** The first message that fits, among those that came and those that will. */
  message(fits: (message: Record<string, unknown>) => boolean): Promise<Record<string, unknown>>
  readonly closed: Promise<{ code: number; reason: string }>
}

/** Opens a socket. @throws Error when the server refuses it. */
export async function openPlainSocket(
  url: string,
  { protocols = ['mcp'], Socket = WebSocket }: { protocols?: string[]; Socket?: typeof WebSocket } = {},
): Promise<PlainSocket> {
  const socket = new Socket(url, protocols)
  const messages: Record<string, unknown>[] = []
  const waiting = new Set<(message: Record<string, unknown>) => void>()
  socket.addEventListener('message', ({ data }) => {
    const message = JSON.parse(String(data))
    messages.push(message)
    for (const look of waiting) look(message)
  })
  const closed = new Promise<{ code: number; reason: string }>((resolve) =>
    socket.addEventListener('close', ({ code, reason }) => resolve({ code, reason })),
  )
  await new Promise<void>((resolve, reject) => {
    socket.addEventListener('open', () => resolve())
    socket.addEventListener('error', () => reject(new Error('refused')))
  })
  let nextId = 1
  const send: PlainSocket['send'] = (message) =>
    socket.send(typeof message === 'string' ? message : JSON.stringify(message))
  const message: PlainSocket['message'] = (fits) =>
    new Promise((resolve, reject) => {
      const known = messages.find(fits)
      if (known) return resolve(known)
      const look = (next: Record<string, unknown>) => {
        if (!fits(next)) return
        waiting.delete(look)
        resolve(next)
      }
      waiting.add(look)
      void closed.then(({ code }) => reject(new Error(`closed with ${code}`)))
    })
  return {
    socket,
    messages,
    send,
    message,
    closed,
    async request(method, params = {}, { id = nextId++, onProgress } = {}) {
      const progressed = (next: Record<string, unknown>) => {
        const told = next.params as Record<string, unknown> | undefined
        if (next.method === 'notifications/progress' && told?.progressToken === id) onProgress?.(told)
      }
      if (onProgress) waiting.add(progressed)
      send({
        jsonrpc: '2.0',
        id,
        method,
        params: { ...params, ...(onProgress && { _meta: { progressToken: id } }) },
      })
      const answer = await message((next) => next.id === id && next.method === undefined)
      waiting.delete(progressed)
      const { result, error } = answer as {
        result?: Record<string, unknown>
        error?: { message: string }
      }
      if (error) throw new Error(error.message)
      return result as Record<string, unknown>
    },
  }
}
