/** Watches whether a store can take pictures, so that none is drawn that cannot be kept. */
import { AppError } from '../errors.ts'
import type { Logger } from '../telemetry/log.ts'
import type { ImageStore } from './image.ts'
import { troubleOf } from './outage.ts'

/** How long a check holds while all is well, unless the store says otherwise, and while it is not; in milliseconds. */
const HOLDS_MS = 5000
const RECHECK_MS = 2000

/**
 * The store, with `trouble`: it is checked in the background, more often while it takes no pictures, and every `put`
 * shows as well. A store without `check` is returned as it is.
 */
export function watchStore(store: ImageStore, { log }: { log: Pick<Logger, 'info' | 'error'> }): ImageStore {
  const { check, checkEveryMs = HOLDS_MS } = store
  if (!check) return store
  let trouble: AppError | undefined
  /** What the last failed check threw, for operators. */
  let cause: unknown
  let learnedAt = Number.NEGATIVE_INFINITY
  let looking: Promise<void> | undefined

  function learn(failure?: unknown): void {
    const before = trouble
    trouble = failure === undefined ? undefined : troubleOf(failure)
    cause = failure
    learnedAt = performance.now()
    if (trouble && trouble.message !== before?.message)
      log.error({ event: 'the picture store takes no pictures', message: trouble.message, err: failure })
    if (!trouble && before) log.info({ event: 'the picture store takes pictures again' })
  }

  function look(): Promise<void> {
    looking ??= check!()
      .then(() => learn(), learn)
      .finally(() => {
        looking = undefined
      })
    return looking
  }

  const isFresh = () => performance.now() - learnedAt < (trouble ? RECHECK_MS : checkEveryMs)
  const timer = setInterval(() => {
    if (!isFresh()) void look()
  }, RECHECK_MS)
  timer.unref()

  return {
    ...store,
    trouble: () => trouble,
    async check() {
      if (!isFresh()) await look()
      if (cause !== undefined) throw cause
    },
    async put(image) {
      try {
        const record = await store.put(image)
        learn()
        return record
      } catch (error) {
        if (isOfStore(error)) learn(error)
        throw error
      }
    },
    async close() {
      clearInterval(timer)
      await store.close()
    },
  }
}

/** True where the store failed, false where it was given something that no store would take. */
function isOfStore(error: unknown): boolean {
  if (!(error instanceof AppError)) return true
  return error.code === 'overloaded' || (error.cause as { code?: unknown } | undefined)?.code !== undefined
}
