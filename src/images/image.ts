/** Finished pictures: what a store keeps of one, and what every store can do. */
import type { AppError } from '../errors.ts'

/** Everything that is known about a picture besides its bytes. Names are those of the request vocabulary. */
export interface ImageRecord {
  /** URL-safe, at most 64 characters of [A-Za-z0-9_-]. */
  readonly id: string
  readonly job_id: string
  /** The caller that owns it (`Caller.id`). Never sent to anyone. */
  readonly owner: string
  readonly media_type: 'image/png'
  /** Size of the PNG. */
  readonly bytes: number
  readonly width: number
  readonly height: number
  readonly prompt: string
  readonly negative_prompt?: string
  readonly seed: number
  readonly num_inference_steps?: number
  readonly guidance_scale?: number
  /** The model's name as the runtime gave it. */
  readonly model: string
  /** The target that made it. */
  readonly target: string
  readonly inference_ms?: number
  /** RFC 3339, UTC. */
  readonly created_at: string
  /** RFC 3339, UTC: after it the picture is gone. */
  readonly expires_at: string
}

/** A picture without its texts: enough to find, send and show it. */
export type ImageFacts = Omit<ImageRecord, 'prompt' | 'negative_prompt'>

export interface StoredImage {
  readonly record: ImageRecord
  readonly png: Uint8Array
}

export interface ImagePage {
  /** Newest first. */
  readonly records: readonly ImageRecord[]
  /** Pass it back to get the next page; absent on the last one. */
  readonly next?: string
}

/** How full a store is. */
export interface ImagesUsage {
  /** What pictures take now, or took at the last check of a shared store. */
  readonly bytes: number
  readonly maxBytes: number
  /** Pictures that this process removed before they expired, to make room; those that were deleted do not count. */
  readonly removedEarly: number
}

/** A store of finished pictures. Expired pictures count as absent, swept or not. */
export interface ImageStore {
  /**
   * Creates the picture if its id is free, else leaves the stored one (first writer wins); returns the stored record.
   * In a store with a bound it makes room as the catalogue's `makeRoom` says: a valid picture goes early only from a
   * caller who holds more than its share.
   * @throws AppError `internal` when it cannot be stored (disk full), `too_large` when it exceeds the whole store, or what
   * can be made free in it, `overloaded` while a store on the network is away, as everything else does.
   */
  put(image: StoredImage): Promise<ImageRecord>
  get(id: string): Promise<StoredImage | undefined>
  /**
   * The bytes of a picture that `head` has just returned, piece by piece; undefined when it is gone. Read it to its end
   * or cancel it. It fails where the store does meanwhile. Absent where the store has only whole pictures.
   */
  stream?(record: ImageFacts): Promise<ReadableStream<Uint8Array> | undefined>
  /** The record without the bytes. */
  head(id: string): Promise<ImageRecord | undefined>
  /** True when there was something to delete. */
  delete(id: string): Promise<boolean>
  /** One caller's pictures, newest first. `limit` 1-100; `after` is a `next` of an earlier page. */
  list(owner: string, options: { limit: number; after?: string }): Promise<ImagePage>
  /** Removes what has expired; returns how many. */
  sweep(): Promise<number>
  /** Resolves while the store can take a picture; absent for a store in this process. @throws an error that says why not */
  check?(): Promise<void>
  /** How long the result of a check holds while all is well, in milliseconds; absent: 5 s. */
  readonly checkEveryMs?: number
  /** Why the store is known to take no picture now, for callers; see watch.ts. Asks nobody. */
  trouble?(): AppError | undefined
  /** How full it is; absent for a store without a bound. Asks nobody. */
  usage?(): ImagesUsage
  close(): Promise<void>
}
