/** SHA-256. */
import { type BinaryToTextEncoding, createHash } from 'node:crypto'

/** The hash of a text (as UTF-8) or of bytes: 32 bytes, or their text in an encoding. */
export function sha256(data: string | Uint8Array): Buffer
export function sha256(data: string | Uint8Array, encoding: BinaryToTextEncoding): string
export function sha256(data: string | Uint8Array, encoding?: BinaryToTextEncoding): Buffer | string {
  const hash = createHash('sha256').update(data)
  return encoding === undefined ? hash.digest() : hash.digest(encoding)
}
