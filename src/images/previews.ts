/**
 * Previews of stored pictures: few are made at once, in turns between those who ask, each one once, and none that nobody
 * waits for. What was made is kept for a while.
 */
import { availableParallelism } from 'node:os'
import { AppError } from '../errors.ts'
import { createSlots } from '../slots.ts'
import type { ImageFacts, ImageStore } from './image.ts'
import type { makePreview, Preview, PreviewSize } from './preview.ts'

/**
 * How many previews are made at once, each on one thread: at most half the cores, because the same cores do all other
 * work, and at most two, because libuv has four threads for them and for all reading of files.
 */
const AT_ONCE = Math.max(1, Math.min(2, Math.floor(availableParallelism() / 2)))
/** Bytes of finished previews that are kept: 160 of 100 KB, and at least 22 of the largest. */
const KEPT_BYTES = 2 ** 24
/** A place in a turn is free again after the preview before it, which takes some 200 ms. */
const RETRY_AFTER_SECONDS = 1

export interface PreviewAsker {
  /** Whoever asks has one turn, whatever the number of previews. */
  readonly turn: string
  /** How many previews may wait for that turn. */
  readonly maxWaiting: number
  /** Aborts when the asker does not want the preview any more. */
  readonly signal?: AbortSignal
}

export interface Previews {
  /** Previews that wait for their turn. */
  readonly waiting: number
  /**
   * The preview of a picture that the store has just confirmed. The PNG is read when its turn has come.
   * @throws AppError as `makePreview`; `not_found` when the picture is gone, `rate_limited` beyond `maxWaiting`, what the
   * store throws; the signal's reason once it aborts.
   */
  of(record: ImageFacts, size: PreviewSize, asker: PreviewAsker): Promise<Preview>
}

/** A preview that is made or waits for that. */
interface Making {
  readonly made: Promise<Preview>
  readonly abandoned: AbortController
  askers: number
}

/** @param options `make` and `atOnce` for tests. */
export function createPreviews(options: {
  readonly images: Pick<ImageStore, 'get'>
  readonly make?: typeof makePreview
  readonly atOnce?: number
  readonly keptBytes?: number
}): Previews {
  const { images, make = loadAndMake, atOnce = AT_ONCE, keptBytes = KEPT_BYTES } = options
  const slots = createSlots(atOnce)
  const making = new Map<string, Making>()
  const kept = createKept(keptBytes)

  async function makeInTurn(id: string, size: PreviewSize, { turn }: PreviewAsker, signal: AbortSignal) {
    const release = await slots.take(signal, turn)
    try {
      const stored = await images.get(id)
      signal.throwIfAborted()
      if (!stored) throw new AppError('not_found', 'The picture was deleted before its preview was made.')
      return await make(stored.png, size, signal)
    } finally {
      release()
    }
  }

  function begin(key: string, id: string, size: PreviewSize, asker: PreviewAsker): Making {
    if (slots.waitingOf(asker.turn) >= asker.maxWaiting)
      throw new AppError(
        'rate_limited',
        `${asker.maxWaiting} previews wait for you already. Wait for one of them before you ask for another.`,
        { retryAfterSeconds: RETRY_AFTER_SECONDS },
      )
    const abandoned = new AbortController()
    const made = makeInTurn(id, size, asker, abandoned.signal)
    const begun = { made, abandoned, askers: 0 }
    making.set(key, begun)
    const forget = () => {
      if (making.get(key) === begun) making.delete(key)
    }
    made.then((preview) => {
      kept.add(key, preview)
      forget()
    }, forget)
    return begun
  }

  return {
    get waiting() {
      return slots.waiting
    },
    async of({ id }, size, asker) {
      const { signal } = asker
      signal?.throwIfAborted()
      const key = `${id} ${size.maxSide ?? ''} ${size.maxBytes}`
      const known = kept.get(key)
      if (known) return known
      const joined = making.get(key) ?? begin(key, id, size, asker)
      joined.askers += 1
      try {
        return await unlessAborted(joined.made, signal)
      } finally {
        joined.askers -= 1
        if (joined.askers === 0) {
          // Whoever asks from now on must not join what is given up.
          if (making.get(key) === joined) making.delete(key)
          joined.abandoned.abort()
        }
      }
    },
  }
}

/** Loads the library at the first preview, so that servers start faster. */
const loadAndMake: typeof makePreview = async (...args) => {
  const previews = await import('./preview.ts').catch((cause) => {
    const advice = 'type `npm install --include=optional`, or use the whole picture.'
    throw new AppError('internal', `Previews need the optional packages of sharp: ${advice}`, { cause })
  })
  return await previews.makePreview(...args)
}

/** Previews of at most `maxBytes`; those that were used last stay. Ids are never given to another picture. */
function createKept(maxBytes: number) {
  const previews = new Map<string, Preview>()
  let bytes = 0

  function remove(key: string): void {
    bytes -= previews.get(key)?.bytes.byteLength ?? 0
    previews.delete(key)
  }

  return {
    get(key: string): Preview | undefined {
      const preview = previews.get(key)
      if (preview) {
        previews.delete(key)
        previews.set(key, preview)
      }
      return preview
    },
    add(key: string, preview: Preview): void {
      remove(key)
      previews.set(key, preview)
      bytes += preview.bytes.byteLength
      for (const oldest of previews.keys()) {
        if (bytes <= maxBytes) return
        remove(oldest)
      }
    },
  }
}

/** The result; the signal's reason if it aborts before. */
async function unlessAborted<T>(result: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return await result
  const aborted = Promise.withResolvers<never>()
  const abort = () => aborted.reject(signal.reason)
  signal.addEventListener('abort', abort, { once: true })
  try {
    return await Promise.race([result, aborted.promise])
  } finally {
    signal.removeEventListener('abort', abort)
  }
}
