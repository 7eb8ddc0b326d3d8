/** What one WebSocket connection has to send. It sees whether the peer takes any of it. */

/**
 * A longer message is sent in fragments of this size, one after the other: so it shows how far it is, and a ping need
 * not wait for all of it.
 */
const SLICE_BYTES = 256 * 1024

/** The part of a socket that sends. `sent` is called when the network has taken the bytes, or the socket has closed. */
export interface Sender {
  send(data: string | Uint8Array, options: { binary: false; fin: boolean }, sent: () => void): void
}

interface Message {
  /** Text if it is sent whole. */
  readonly data: string | Uint8Array
  /** What the network has not taken yet: bytes, or characters of a text. */
  left: number
  readonly sent: (() => void) | undefined
}

/** Bytes that may wait for all connections of one caller. */
const MAX_BYTES_OF_CALLER = 2 ** 26

export interface OutboxParts {
  readonly sender: Sender
  /** Bytes that may wait for this connection. */
  readonly maxBytes: number
  /** Whoever answers for this connection together with others. */
  readonly caller: string
  /** Bytes that wait, of each caller; the outboxes keep it. */
  readonly unsentOf: Map<string, number>
}

/** The messages of one connection, in their order. */
export class Outbox {
  readonly #parts: OutboxParts
  readonly #unsent: Message[] = []
  /** Messages that wait behind one that is sent in fragments; undefined while there is none. */
  #waiting: Message[] | undefined
  #unsentBytes = 0
  /** When the network last took something, or had nothing to take: `performance.now()`. */
  #takenAt = 0
  #isClosed = false

  constructor(parts: OutboxParts) {
    this.#parts = parts
  }

  get isEmpty(): boolean {
    return this.#unsent.length === 0
  }

  /** True where so much waits that the peer should read before it asks for more. */
  get isHalfFull(): boolean {
    return this.#unsentBytes > this.#parts.maxBytes / 2 || this.#unsentOfCaller > MAX_BYTES_OF_CALLER / 2
  }

  /** For how long the peer has taken nothing of what waits, in milliseconds. @param at `performance.now()`. */
  stuckMs(at: number): number {
    return this.#unsentBytes === 0 ? 0 : at - this.#takenAt
  }

  /**
   * Takes a message. A single one is always taken, however large; several may not pile up.
   * @param sent called once, when the message is sent or never will be, unless it is not taken.
   * @returns false where it is not taken.
   */
  send(text: string, sent?: () => void): boolean {
    const exceeds = (bytes: number, max: number) => bytes > 0 && bytes + text.length > max
    if (exceeds(this.#unsentBytes, this.#parts.maxBytes)) return false
    if (exceeds(this.#unsentOfCaller, MAX_BYTES_OF_CALLER)) return false
    const isLong = text.length > SLICE_BYTES
    const data = isLong ? Buffer.from(text) : text
    const message = { data, left: data.length, sent }
    this.#unsent.push(message)
    this.#grow(message.left)
    if (this.#waiting) this.#waiting.push(message)
    else if (isLong) this.#sendFragments(message)
    else this.#write(message, data, true)
    return true
  }

  /** Forgets all messages, when the connection is gone. */
  close(): void {
    this.#isClosed = true
    this.#grow(-this.#unsentBytes)
    for (const { sent } of this.#unsent) sent?.()
  }

  /** Sends a long message, then whatever came meanwhile: nothing else may come between its fragments. */
  #sendFragments(message: Message): void {
    this.#waiting ??= []
    const { data } = message
    const from = data.length - message.left
    const slice = (data as Uint8Array).subarray(from, from + SLICE_BYTES)
    const isLast = slice.length === message.left
    this.#write(message, slice, isLast, () => {
      if (isLast) this.#sendWaiting()
      else this.#sendFragments(message)
    })
  }

  #sendWaiting(): void {
    const waiting = this.#waiting ?? []
    this.#waiting = undefined
    for (const [index, message] of waiting.entries()) {
      if (typeof message.data === 'string') this.#write(message, message.data, true)
      else {
        this.#waiting = waiting.slice(index + 1)
        this.#sendFragments(message)
        return
      }
    }
  }

  #write(message: Message, data: string | Uint8Array, fin: boolean, next?: () => void): void {
    this.#parts.sender.send(data, { binary: false, fin }, () => {
      if (this.#isClosed) return
      this.#takenAt = performance.now()
      this.#grow(-data.length)
      message.left -= data.length
      if (message.left === 0) {
        this.#unsent.shift()
        message.sent?.()
      }
      next?.()
    })
  }

  get #unsentOfCaller(): number {
    const { unsentOf, caller } = this.#parts
    return unsentOf.get(caller) ?? 0
  }

  #grow(bytes: number): void {
    if (this.#unsentBytes === 0) this.#takenAt = performance.now()
    this.#unsentBytes += bytes
    const { unsentOf, caller } = this.#parts
    const unsent = this.#unsentOfCaller + bytes
    if (unsent > 0) unsentOf.set(caller, unsent)
    else unsentOf.delete(caller)
  }
}
