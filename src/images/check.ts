/** Checks that every store makes, so that no store has to trust its caller. */
import { AppError } from '../errors.ts'
import type { ImageRecord, StoredImage } from './image.ts'

const ID = /^[A-Za-z0-9_-]{1,64}$/

/** True for an id of the right form. Anything else names no picture, no path and no link. */
export function isImageId(id: string): boolean {
  return ID.test(id)
}

/**
 * Refuses a picture that contradicts its own record.
 * @throws AppError `internal`: the server made a mistake; the cause names the field.
 */
export function checkImage({ record, png }: StoredImage): void {
  const wrong = [
    !isImageId(record.id) && `id ${JSON.stringify(record.id)}`,
    record.bytes !== png.byteLength && `bytes ${record.bytes} for a picture of ${png.byteLength}`,
    Number.isNaN(Date.parse(record.created_at)) && `created_at ${record.created_at}`,
    Number.isNaN(Date.parse(record.expires_at)) && `expires_at ${record.expires_at}`,
  ].filter((fault) => fault !== false)
  if (wrong.length > 0)
    throw new AppError(
      'internal',
      'The picture could not be stored: its record is wrong. Please report this.',
      {
        cause: new Error(`Image record with ${wrong.join(', ')}`),
      },
    )
}

/**
 * Refuses a picture that would not fit into an empty store. Both sizes in bytes; `setting` is the name of the bound.
 * @throws AppError `too_large`
 */
export function checkFits(options: { bytes: number; maxBytes: number; setting?: string }): void {
  const { bytes, maxBytes, setting = 'IMAGES_MAX_BYTES' } = options
  if (bytes > maxBytes)
    throw new AppError(
      'too_large',
      `The picture takes ${bytes} bytes and the whole image store holds ${maxBytes}. ` +
        `Ask for a smaller size, or let the operator raise ${setting}.`,
    )
}

/**
 * Refuses a picture for which there is no room but that of callers who hold no more than their share.
 * @throws AppError `too_large`
 */
export function checkShare({ bytes, fits }: { bytes: number; fits: boolean }): void {
  if (!fits)
    throw new AppError(
      'too_large',
      `The picture takes ${bytes} bytes. The image store is full, and that is more than your share of it. ` +
        'Ask for a smaller size, or try again when pictures have expired.',
    )
}

/** A record as a store wrote it; undefined for anything else. */
export function parseRecord(text: string): ImageRecord | undefined {
  try {
    const record = JSON.parse(text) as Partial<ImageRecord> | null
    const dates = [record?.created_at, record?.expires_at].map((date) => Date.parse(date ?? ''))
    return typeof record?.owner === 'string' && !dates.some(Number.isNaN)
      ? (record as ImageRecord)
      : undefined
  } catch {
    return undefined
  }
}
