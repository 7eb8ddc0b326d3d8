/** Reads JSON from outside. Checks size and depth before parsing. */
import { AppError, clientLeft, quote } from '../errors.ts'

/** No request needs deeper nesting, so parsing it would waste CPU. */
const MAX_DEPTH = 32

/**
 * The parsed JSON body.
 * @param options `maxBytes` is the largest body accepted.
 * @throws AppError `unsupported_media_type`, `too_large`, `invalid_request` (no JSON, nested too deeply), `client_left`.
 */
export async function readJson(request: Request, { maxBytes }: { maxBytes: number }): Promise<unknown> {
  const type = request.headers.get('content-type')?.split(';')[0]?.trim().toLowerCase()
  if (type !== 'application/json')
    throw new AppError(
      'unsupported_media_type',
      `Content-Type must be application/json (got ${quote(type ?? 'none')}).`,
    )
  return parseJson(new TextDecoder().decode(await readBytes(request, maxBytes)))
}

/** A parsed message. @throws AppError `invalid_request` (no JSON, nested too deeply). */
export function parseJson(text: string): unknown {
  if (isDeeperThan(text, MAX_DEPTH))
    throw new AppError(
      'invalid_request',
      `The message nests deeper than ${MAX_DEPTH} levels; no request needs that.`,
    )
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new AppError(
      'invalid_request',
      `The message is not valid JSON: ${(error as Error).message.slice(0, 120)}.`,
    )
  }
}

async function readBytes(request: Request, maxBytes: number): Promise<Uint8Array> {
  const tooLarge = () =>
    new AppError(
      'too_large',
      `The body is larger than the ${maxBytes} bytes that this server accepts (MAX_BODY_BYTES).`,
    )
  const declared = request.headers.get('content-length')
  if (declared !== null && Number(declared) > maxBytes) throw tooLarge()
  try {
    if (declared !== null) return new Uint8Array(await request.arrayBuffer())
    if (!request.body) return new Uint8Array()
    const chunks: Uint8Array[] = []
    let size = 0
    for await (const chunk of request.body) {
      size += chunk.byteLength
      if (size > maxBytes) throw tooLarge()
      chunks.push(chunk)
    }
    return Buffer.concat(chunks)
  } catch (error) {
    // Nothing but the connection can fail here.
    throw error instanceof AppError ? error : clientLeft(error)
  }
}

/** Counts brackets outside of strings in one pass, without recursion. */
function isDeeperThan(text: string, limit: number): boolean {
  let depth = 0
  let inString = false
  for (let index = 0; index < text.length; index += 1) {
    const char = text.charCodeAt(index)
    if (inString) {
      if (char === 0x5c) index += 1
      else if (char === 0x22) inString = false
    } else if (char === 0x22) inString = true
    else if (char === 0x5b || char === 0x7b) {
      depth += 1
      if (depth > limit) return true
    } else if (char === 0x5d || char === 0x7d) depth -= 1
  }
  return false
}
