/**
 * Server-sent events (WHATWG HTML, "9.2.6 Interpreting an event stream") read as bytes. A picture comes as one
 * `data:` line of megabytes in chunks of 64 KB: the reader passes its pieces on as they came, neither joined nor as text.
 */

export interface ServerSentEvent {
  /** `message` where the stream names none. */
  readonly event: string
  /** UTF-8 in pieces; between several `data:` lines there is a line feed. */
  readonly data: readonly Buffer[]
}

const LF = 0x0a
const CR = 0x0d
const COLON = 0x3a
const SPACE = 0x20
const LINE_FEED = Buffer.from([LF])
/** Lines of one stream, whatever they say: a long generation has some thousand. Each costs CPU time, even an empty one. */
const MAX_LINES = 100_000
/** Bytes that hold a byte order mark, the longest field name, the colon and the space. */
const FIELD_START = 16
const BYTE_ORDER_MARK = Buffer.from([0xef, 0xbb, 0xbf])

/**
 * A reader for the stream's chunks in order. It calls `onEvent` within `feed`, and ignores comments, `id`, `retry` and an
 * event that the end of the stream cut off. The caller counts bytes and chunks.
 * @throws Error from `feed` for more than 100,000 lines.
 */
export function createEventStreamReader({ onEvent }: { onEvent: (event: ServerSentEvent) => void }): {
  feed(chunk: Buffer): void
} {
  let line: Buffer[] = []
  let lines = 0
  let firstLine = true
  let afterCarriageReturn = false
  let event = ''
  let data: Buffer[] = []

  const endLine = (piece: Buffer) => {
    lines += 1
    if (lines > MAX_LINES) throw new Error(`the event stream has more than ${MAX_LINES} lines`)
    line.push(piece)
    // Joins the few lines that were cut within their field name, so that the name is in the first piece.
    const pieces = line[0]!.length < FIELD_START ? [Buffer.concat(line)] : line
    line = []
    if (firstLine && pieces[0]!.subarray(0, 3).equals(BYTE_ORDER_MARK)) pieces[0] = pieces[0]!.subarray(3)
    firstLine = false
    readLine(pieces)
  }

  const readLine = (pieces: Buffer[]) => {
    const start = pieces[0]!
    if (start.length === 0) return dispatch()
    const colon = start.indexOf(COLON)
    const name = start.toString('latin1', 0, colon === -1 ? start.length : colon)
    if (name !== 'data' && name !== 'event') return
    const at = colon === -1 ? start.length : start[colon + 1] === SPACE ? colon + 2 : colon + 1
    pieces[0] = start.subarray(at)
    if (name === 'event') event = Buffer.concat(pieces).toString('utf8')
    else {
      if (data.length > 0) data.push(LINE_FEED)
      for (const piece of pieces) data.push(piece)
    }
  }

  const dispatch = () => {
    if (data.length > 0) onEvent({ event: event || 'message', data })
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
      if (start < chunk.length) line.push(chunk.subarray(start))
    },
  }
}
