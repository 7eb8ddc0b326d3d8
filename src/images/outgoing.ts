/**
 * Pictures on their way out. What this process holds for answers that are not sent yet is bounded: for each caller, for
 * each signed link, for all links, and in all. Who asks beyond that is refused before the picture is read.
 */
import { type Identity, isAnonymous } from '../auth/caller.ts'
import { AppError, type ErrorCode } from '../errors.ts'
import type { ImageFacts, ImageStore } from './image.ts'

const MIB = 2 ** 20

/**
 * What an answer that is sent piece by piece holds at once, in bytes: the pieces that are read and not yet taken by the
 * network.
 */
const PIECES_BYTES = 256 * 1024
/** A picture in base64 inside JSON: its own bytes, the base64, and the JSON that holds it again. */
const INLINE_FACTOR = 4

/** Bytes. A single answer is always sent, however large. */
const MAX_OF_CALLER = 64 * MIB
const MAX_OF_LINK = 32 * MIB
const MAX_OF_LINKS = 128 * MIB
const MAX_OF_ALL = 256 * MIB
/** An answer that is read leaves within moments. */
const RETRY_AFTER_SECONDS = 2

/** Who gets the picture: a caller, or whoever has a signed link to it. */
export type Receiver = { readonly caller: Identity } | { readonly link: string }

/** Where an answer says what to do when it is sent, or will never be. Called at once where it is over already. */
export type OnSent = (done: () => void) => void

/** What an answer holds, in bytes. */
export interface Load {
  /** What it alone holds. */
  readonly own: number
  /** What all answers with the same key hold together. */
  readonly shared?: { readonly key: string; readonly bytes: number }
}

export interface Outgoing {
  /** Bytes that are counted now. */
  readonly bytes: number
  /**
   * Counts what an answer is about to hold, until the returned function is called.
   * @throws AppError `rate_limited` beyond what the caller or the link may have in flight, `overloaded` beyond what all
   * may.
   */
  take(receiver: Receiver, load: Load): () => void
  /**
   * Counts the picture until the answer is sent, then reads it: as a stream where the store can, else as a buffer that
   * answers at the same time share. Undefined when it is gone.
   * @throws AppError as `take`, and what the store throws.
   */
  open(
    record: ImageFacts,
    to: { readonly receiver: Receiver; readonly onSent: OnSent },
  ): Promise<Uint8Array | ReadableStream<Uint8Array> | undefined>
}

interface Bound {
  readonly key: string
  readonly maxBytes: number
  readonly code: ErrorCode
  readonly message: string
}

const ALL: Bound = {
  key: 'all',
  maxBytes: MAX_OF_ALL,
  code: 'overloaded',
  message: 'This server sends as many pictures as it can. Try again shortly.',
}
const LINKS: Bound = { ...ALL, key: 'links', maxBytes: MAX_OF_LINKS }

/** The bounds of a receiver, narrowest first. Anonymous callers cannot be told apart, so they only share that of all. */
function boundsOf(receiver: Receiver): Bound[] {
  if ('link' in receiver)
    return [
      {
        key: `link ${receiver.link}`,
        maxBytes: MAX_OF_LINK,
        code: 'rate_limited',
        message: 'This link is opened too often at the same time. Try again shortly.',
      },
      LINKS,
      ALL,
    ]
  if (isAnonymous(receiver.caller)) return [ALL]
  return [
    {
      key: `caller ${receiver.caller.id}`,
      maxBytes: MAX_OF_CALLER,
      code: 'rate_limited',
      message: `Your pictures on their way fill the ${MAX_OF_CALLER / MIB} MiB that one caller may have in flight. Read the answers that wait for you before you ask for more.`,
    },
    ALL,
  ]
}

/** The load of a picture of `bytes` in base64 inside JSON. */
export function inlineLoad(bytes: number): Load {
  return { own: bytes * INLINE_FACTOR }
}

/** The load of bytes that answers share, sent piece by piece. */
export function sharedLoad(key: string, bytes: number): Load {
  return { own: Math.min(bytes, PIECES_BYTES), shared: { key, bytes } }
}

export function createOutgoing(images: Pick<ImageStore, 'get' | 'stream'>): Outgoing {
  const accounts = new Map<string, Account>()
  const reads = createSharedReads(images)

  function take(receiver: Receiver, load: Load): () => void {
    const bounds = boundsOf(receiver)
    for (const { key, maxBytes, code, message } of bounds) {
      const account = accounts.get(key)
      if (account && account.bytes + account.costOf(load) > maxBytes)
        throw new AppError(code, message, { retryAfterSeconds: RETRY_AFTER_SECONDS })
    }
    for (const { key } of bounds) {
      const account = accounts.get(key) ?? new Account()
      accounts.set(key, account)
      account.add(load)
    }
    let isCounted = true
    return () => {
      if (!isCounted) return
      isCounted = false
      for (const { key } of bounds) {
        const account = accounts.get(key)
        account?.remove(load)
        if (account?.isEmpty) accounts.delete(key)
      }
    }
  }

  return {
    get bytes() {
      return accounts.get(ALL.key)?.bytes ?? 0
    },
    take,
    async open(record, { receiver, onSent }) {
      if (images.stream && record.bytes > PIECES_BYTES) {
        onSent(take(receiver, { own: PIECES_BYTES }))
        return await images.stream(record)
      }
      onSent(take(receiver, sharedLoad(record.id, record.bytes)))
      const { png, leave } = reads.join(record.id)
      onSent(leave)
      return await png
    },
  }
}

/** What the answers under one bound hold. */
class Account {
  bytes = 0
  #answers = 0
  readonly #answersOf = new Map<string, number>()

  get isEmpty(): boolean {
    return this.#answers === 0
  }

  /** Bytes that the load would add. */
  costOf({ own, shared }: Load): number {
    return own + (shared && !this.#answersOf.has(shared.key) ? shared.bytes : 0)
  }

  add(load: Load): void {
    this.bytes += this.costOf(load)
    this.#answers += 1
    const { shared } = load
    if (shared) this.#answersOf.set(shared.key, (this.#answersOf.get(shared.key) ?? 0) + 1)
  }

  remove(load: Load): void {
    const { shared } = load
    const left = shared ? (this.#answersOf.get(shared.key) ?? 0) - 1 : 0
    if (shared && left > 0) this.#answersOf.set(shared.key, left)
    else if (shared) this.#answersOf.delete(shared.key)
    this.#answers -= 1
    // Now that the last answer of the shared bytes is gone, they would be added anew: so they are taken off.
    this.bytes -= this.costOf(load)
  }
}

/** Reads a picture once for all answers that hold it at the same time. */
function createSharedReads(images: Pick<ImageStore, 'get'>) {
  const reads = new Map<string, { readonly png: Promise<Uint8Array | undefined>; answers: number }>()
  return {
    /** @returns the bytes, and what to call when the answer holds them no more. */
    join(id: string): { png: Promise<Uint8Array | undefined>; leave: () => void } {
      const read = reads.get(id) ?? { png: images.get(id).then((stored) => stored?.png), answers: 0 }
      reads.set(id, read)
      read.answers += 1
      return {
        png: read.png,
        leave() {
          read.answers -= 1
          if (read.answers === 0) reads.delete(id)
        },
      }
    },
  }
}
