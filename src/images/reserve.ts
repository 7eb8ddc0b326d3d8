/** How much room a store needs for its next picture, so that one that fills is noticed before a picture is lost. */

/** How fast a large picture is forgotten: by half after 34 smaller pictures or checks. */
const FORGET = 0.98

/** Remembers the largest of the last pictures, in bytes; the others weigh less the longer ago they were. */
export function createReserve() {
  let bytes = 0
  return {
    /** A picture of that size was stored, or could not be. */
    note(size: number): void {
      bytes = Math.max(size, bytes * FORGET)
    },
    /** For a check: smaller each time, so that one large picture does not close a store for ever that takes others. */
    bytes(): number {
      bytes *= FORGET
      return Math.floor(bytes / FORGET)
    },
  }
}
