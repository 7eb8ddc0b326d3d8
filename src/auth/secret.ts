/** Secrets from the environment or from a mounted file that may be rotated while the server runs. */
import { readFileSync, statSync } from 'node:fs'

/** How long a file's state is trusted before it is looked at again, in milliseconds. */
const RECHECK_MS = 1000

/** A secret's current value. Printing or logging one never shows it. */
export interface Secret {
  read(): string
  toJSON(): string
}

const redacted = { toJSON: () => '[secret]' }

/** A secret that never changes. */
export function fixedSecret(value: string): Secret {
  return { read: () => value, ...redacted }
}

/**
 * A secret kept in a file (a mounted Kubernetes secret): re-read when the file changes, looked at once a second.
 * While a rotation leaves the file unreadable or empty, the last good value stays.
 * @throws Error when the file cannot be read, or is empty, at the first look.
 */
export function fileSecret(path: string, now: () => number = Date.now): Secret {
  const load = () => {
    const value = readFileSync(path, 'utf8').trim()
    if (value === '') throw new Error(`${path} is empty`)
    return value
  }
  const stamp = () => {
    const { mtimeMs, ino, size } = statSync(path)
    return `${mtimeMs}:${ino}:${size}`
  }
  let seen = stamp()
  let value = load()
  let checkedAt = now()
  return {
    read() {
      if (now() - checkedAt < RECHECK_MS) return value
      checkedAt = now()
      try {
        const current = stamp()
        if (current !== seen) {
          value = load()
          seen = current
        }
      } catch {
        // A rotation in progress: the last good value stays, the next look tries again.
      }
      return value
    },
    ...redacted,
  }
}
