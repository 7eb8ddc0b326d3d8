/** Secrets from the environment or from a mounted file that may be rotated while the server runs. */
import { readFileSync, statSync } from 'node:fs'

/** How often a file is checked for changes, in milliseconds. */
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
 * A secret in a file, such as a mounted Kubernetes secret. A changed file is read again within a second. While a
 * rotation leaves the file unreadable or empty, the last good value stays.
 * @throws Error when the file is unreadable or empty at the start.
 */
export function fileSecret(path: string, now: () => number = () => performance.now()): Secret {
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
        // A rotation is in progress. The last good value stays until the next check.
      }
      return value
    },
    ...redacted,
  }
}
