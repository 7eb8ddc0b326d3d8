/**
 * Server-sent events (WHATWG HTML, "9.2.6 Interpreting an event stream") read as bytes. A picture comes as one
 * `data:` line of megabytes in chunks of 64 KB: lines are joined once, when they end, and never become text here.
 */

export interface ServerSentEvent {
  /** `message` where the stream names none. */
  readonly event: string
  /** UTF-8; several `data:` lines are joined by a line feed. */
  readonly data: Buffer
}

const LF = 0x0a
const CR = 0x0d
const COLON = 0x3a
const SPACE = 0x20
const BYTE_ORDER_MARK = Buffer.from([0xef, 0xbb, 0xbf])

/**
 * A reader to be fed with the stream's chunks in order; `onEvent` is called within `feed`. Comments, `id` and
 * `retry` are ignored, and so is an event that the end of the stream cut off. It bounds nothing: whoever feeds it
 * counts the bytes.
 */
export function createEventStreamReader({ onEvent }: { onEvent: (event: ServerSentEvent) => void }): {
  feed(chunk: Buffer): void
} {
  let pieces: Buffer[] = []
  let firstLine = true
  let afterCarriageReturn = false
  let event = ''
  let data: Buffer[] = []

  const endLine = (piece: Buffer) => {
    let line = piece
    if (pieces.length > 0) {
      pieces.push(piece)
      line = Buffer.concat(pieces)
      pieces = []
    }
    if (firstLine && line.subarray(0, 3).equals(BYTE_ORDER_MARK)) line = line.subarray(3)
    firstLine = false
    if (line.length === 0) dispatch()
    else readField(line)
  }

  const readField = (line: Buffer) => {
    const colon = line.indexOf(COLON)
    const name = line.toString('latin1', 0, colon === -1 ? line.length : colon)
    if (name !== 'data' && name !== 'event') return
    const start = colon === -1 ? line.length : line[colon + 1] === SPACE ? colon + 2 : colon + 1
    if (name === 'event') event = line.toString('utf8', start)
    else data.push(line.subarray(start))
  }

  const dispatch = () => {
    if (data.length > 0)
      onEvent({ event: event || 'message', data: data.length === 1 ? data[0]! : joinLines(data) })
    event = ''
    data = []
  }

  return {
    feed(chunk) {
      let start = 0
      // A line feed right after a carriage return belongs to it, also when a chunk ends between the two.
      if (afterCarriageReturn && chunk[0] === LF) start = 1
      if (chunk.length > 0) afterCarriageReturn = false
      let lf = chunk.indexOf(LF, start)
      let cr = chunk.indexOf(CR, start)
      while (lf !== -1 || cr !== -1) {
        const end = cr === -1 || (lf !== -1 && lf < cr) ? lf : cr
        endLine(chunk.subarray(start, end))
        start = end + 1
        if (end === cr) {
          if (chunk[start] === LF) start++
          else afterCarriageReturn = start === chunk.length
          cr = chunk.indexOf(CR, start)
        }
        if (lf !== -1 && lf < start) lf = chunk.indexOf(LF, start)
      }
      if (start < chunk.length) pieces.push(chunk.subarray(start))
    },
  }
}

function joinLines(lines: readonly Buffer[]): Buffer {
  const feed = Buffer.from([LF])
  return Buffer.concat(lines.flatMap((line, i) => (i === 0 ? [line] : [feed, line])))
}
