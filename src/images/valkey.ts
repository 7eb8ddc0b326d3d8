/**
 * Pictures in Valkey (or Redis), for clusters too small for an S3 store: any number of server processes on one Valkey
 * are one store. Every change is one script in valkey.lua, so the bound holds exactly, however many write at once. That
 * file also says what the keys are.
 */
import { readFileSync } from 'node:fs'
import type { Redis } from 'ioredis'
import type { Secret } from '../auth/secret.ts'
import { AppError } from '../errors.ts'
import { sha256 } from '../hash.ts'
import { retry } from '../retry.ts'
import type { Logger } from '../telemetry/log.ts'
import { connectValkey, infoField, risksOf, type Valkey } from '../valkey/connection.ts'
import { JOBS_BYTES } from '../valkey/memory.ts'
import { checkLimit, cursorOf, digits, hasExpired, type Place, parseCursor } from './catalogue.ts'
import { checkFits, checkImage, checkShare, isImageId, parseRecord } from './check.ts'
import type { ImageRecord, ImageStore } from './image.ts'
import { explainOutage } from './outage.ts'
import { createReserve } from './reserve.ts'

const SCRIPT = readFileSync(new URL('./valkey.lua', import.meta.url), 'utf8')
/** A big picture on a slow network needs more than a job's two seconds. */
const COMMAND_TIMEOUT_MS = 5000
/** How often to ask a server that stopped answering whether it is back, in milliseconds. */
const PROBE_MS = 500
/** How long what a check writes stays, in milliseconds. */
const CHECK_LIVES_MS = 1000
/** What keys and index of a picture take. The test of the server's memory guards it, and the factor. */
const OVERHEAD_BYTES = 1024
/** Valkey's allocator rounds large values up, by a fifth at most. */
const ALLOCATOR_FACTOR = 1.25

export interface ValkeyImagesOptions {
  readonly url: Secret
  /** Bound of pictures, records and what the index of them takes, in bytes; catalogue.ts says what goes first. */
  readonly maxBytes: number
  readonly log: Logger
  /** First part of every key; absent: `diffusers-mcp`. */
  readonly prefix?: string
  /** Milliseconds since 1970. */
  readonly now?: () => number
  /** How long to keep a picture that cannot be stored in memory and retry, in milliseconds. */
  readonly retryForMs?: number
}

/**
 * A store over one Valkey or Redis server (a primary with replicas is fine, Valkey Cluster is not), on a connection of
 * its own: large values would hold the commands of jobs up. While the server is away or full, `put` keeps the picture
 * in memory and retries for `retryForMs` (60 s), and everything else throws AppError `overloaded`, at once where that is
 * known and after 5 s where it is not.
 *
 * Waits some seconds for the first connection. Without one it starts all the same, and is there once the server is: a
 * process that ended instead would only be started again, and could not say what it waits for.
 * @throws Error that names the setting, when the server is there and its `maxmemory` is too small. When that turns up
 * later it is logged: a process that serves does not end for it.
 */
export async function createValkeyImages(options: ValkeyImagesOptions): Promise<ImageStore> {
  const { url, maxBytes, log, prefix = 'diffusers-mcp', now = Date.now, retryForMs = 60_000 } = options
  const keys = `${prefix}:images:`
  const closing = new AbortController()
  const { valkey, close } = await openServer({ url, maxBytes, log })
  valkey.client.defineCommand('pictures', { numberOfKeys: 1, lua: SCRIPT })

  function call<T>(command: 'put' | 'delete' | 'list' | 'sweep', ...args: (string | Buffer)[]): Promise<T> {
    return valkey.use((client) =>
      (client as Redis & Record<'pictures', (...args: (string | Buffer)[]) => Promise<T>>).pictures(
        keys,
        command,
        String(now()),
        ...args,
      ),
    )
  }

  const reserve = createReserve()
  /** Valid pictures that this process removed to make room. */
  let removedEarly = 0
  /** What all pictures took at the last check. */
  let heldBytes = 0

  const pictureKey = (id: string) => `${keys}picture:${id}`

  /** The record if it is one and has not expired. */
  function valid(json: Buffer | string | null | undefined): ImageRecord | undefined {
    const record = json ? parseRecord(json.toString()) : undefined
    return record && !hasExpired(record, now()) ? record : undefined
  }

  return {
    put: (image) =>
      explainOutage('The picture could not be stored', async () => {
        checkImage(image)
        const { record, png } = image
        const json = JSON.stringify(record)
        const bytes = png.byteLength + Buffer.byteLength(json) + OVERHEAD_BYTES
        checkFits({ bytes, maxBytes, setting: 'IMAGES_VALKEY_MAX_BYTES' })
        reserve.note(bytes)
        const [stored, removed] = await retry(
          () =>
            call<[string | null, number]>(
              'put',
              record.id,
              json,
              Buffer.from(png.buffer, png.byteOffset, png.byteLength),
              String(bytes),
              digits(Date.parse(record.expires_at)),
              placeOf({ createdAt: Date.parse(record.created_at), id: record.id }),
              sha256(record.owner, 'hex'),
              String(maxBytes),
            ),
          { until: performance.now() + retryForMs, signal: closing.signal, isTransient: isOutage },
        )
        removedEarly += removed
        checkShare({ bytes, fits: stored !== null })
        return stored === null ? record : (JSON.parse(stored) as ImageRecord)
      }),

    get: (id) =>
      explainOutage('The picture could not be read', async () => {
        if (!isImageId(id)) return undefined
        const [json, png] = await valkey.use((client) => client.hmgetBuffer(pictureKey(id), 'record', 'png'))
        const record = valid(json)
        return record && png ? { record, png } : undefined
      }),

    head: (id) =>
      explainOutage('The picture could not be looked up', async () =>
        isImageId(id)
          ? valid(await valkey.use((client) => client.hget(pictureKey(id), 'record')))
          : undefined,
      ),

    delete: (id) =>
      explainOutage(
        'The picture could not be deleted',
        async () => isImageId(id) && (await call<number>('delete', id)) === 1,
      ),

    list: (owner, { limit, after }) =>
      explainOutage('The pictures could not be listed', async () => {
        checkLimit(limit)
        const found: string[] = []
        let before = after === undefined ? '' : placeOf(parseCursor(after))
        do {
          const wanted = String(limit + 1 - found.length)
          const [more, next] = await call<[string[], string]>('list', sha256(owner, 'hex'), before, wanted)
          found.push(...more)
          before = next
        } while (before !== '' && found.length <= limit)
        const records = found.slice(0, limit).map((json) => JSON.parse(json) as ImageRecord)
        const last = records.at(-1)
        return found.length > limit && last
          ? { records, next: cursorOf({ createdAt: Date.parse(last.created_at), id: last.id }) }
          : { records }
      }),

    sweep: () =>
      explainOutage('Expired pictures could not be removed', async () => {
        for (let removed = 0; ; ) {
          const count = await call<number>('sweep')
          if (count === 0) return removed
          removed += count
        }
      }),

    async check() {
      heldBytes = await checkRoom({ valkey, keys, maxBytes, bytes: reserve.bytes() * ALLOCATOR_FACTOR })
    },

    usage: () => ({ bytes: heldBytes, maxBytes, removedEarly }),

    async close() {
      closing.abort()
      await close()
    },
  }
}

/**
 * Connects to the server, looks at its settings after every connect, and notices when one that hung answers again.
 * Resolves with the first connection, or some seconds later without one.
 * @throws Error that names the setting, when the first look finds a `maxmemory` that is too small.
 */
async function openServer({ url, maxBytes, log }: Pick<ValkeyImagesOptions, 'url' | 'maxBytes' | 'log'>) {
  let starting = true
  const valkey = connectValkey({
    url,
    what: 'picture store',
    effect: 'pictures can be neither stored nor shown until it is back',
    commandTimeoutMs: COMMAND_TIMEOUT_MS,
    log,
    onReady: () => {
      if (!starting) void inspect().then(complain)
    },
  })

  /** A server that hangs keeps its connection, so that only an answer shows that it is back. */
  let probing = false
  const probe = setInterval(async () => {
    if (probing) return
    probing = true
    await valkey
      .check()
      .catch(() => valkey.use((client) => client.ping(), { probe: true }))
      .catch(() => {})
    probing = false
  }, PROBE_MS)
  probe.unref()

  /** What is wrong with the server's settings, in a sentence; undefined also when that is not known. */
  async function inspect(): Promise<string | undefined> {
    try {
      const info = await valkey.use((client) => client.info())
      for (const { setting, is, risk } of risksOf(info, 'stored pictures'))
        log.error({ event: 'PICTURES MAY BE LOST', setting: `set ${setting}`, is, risk })
      return misfit({ maxBytes, maxMemory: Number(infoField(info, 'maxmemory') ?? 0) })
    } catch (error) {
      log.warn({ event: 'settings of the picture store are not known', message: (error as Error).message })
      return undefined
    }
  }

  function complain(problem: string | undefined): void {
    if (problem !== undefined) log.error({ event: 'the picture store is too small', message: problem })
  }

  async function close(): Promise<void> {
    clearInterval(probe)
    await valkey.close()
  }

  function isThere(): Promise<boolean> {
    return valkey.check().then(
      () => true,
      () => false,
    )
  }

  await valkey.connected
  starting = false
  if (await isThere()) {
    const problem = await inspect()
    if (problem !== undefined) {
      await close()
      throw new Error(problem)
    }
  }
  return { valkey, close }
}

/**
 * Returns what all pictures take, in bytes.
 * @param options.bytes memory that a picture needs. @throws Error while the server has none for it, or takes no writes.
 */
async function checkRoom(options: {
  valkey: Valkey
  keys: string
  maxBytes: number
  bytes: number
}): Promise<number> {
  const { valkey, keys, maxBytes, bytes } = options
  await valkey.check()
  const [info, taken] = await valkey.use((client) =>
    // Some users of Valkey may not ask for INFO.
    Promise.all([client.info('memory').catch(() => ''), client.get(`${keys}bytes`)]),
  )
  const held = Number(taken ?? 0)
  const free = freeOf(info)
  // At its bound the store removes as much as it adds.
  if (free < bytes && held + bytes <= maxBytes) {
    const message = `The picture store is full: Valkey has ${Math.max(0, free)} bytes left, and a picture takes up to ${Math.ceil(bytes)}.`
    throw Object.assign(new Error(message), { full: true })
  }
  // A server that is full refuses every write.
  await valkey.use((client) => client.set(`${keys}check`, '', 'PX', CHECK_LIVES_MS))
  return held
}

/** What is left of the server's `maxmemory`, in bytes, from its INFO; infinite where there is no bound, or none known. */
function freeOf(info: string): number {
  const maxMemory = Number(infoField(info, 'maxmemory') ?? 0)
  return maxMemory === 0 ? Number.POSITIVE_INFINITY : maxMemory - Number(infoField(info, 'used_memory'))
}

/** Away or full: both end by themselves. */
function isOutage(error: unknown): boolean {
  return error instanceof AppError && error.code === 'overloaded'
}

/** A picture's place in the order of their making, as text that sorts the same way. */
function placeOf({ createdAt, id }: Place): string {
  return `${digits(createdAt)}.${id}`
}

/** What is wrong when the bound does not fit into the server's `maxmemory` (0: none). Both in bytes. */
function misfit({ maxBytes, maxMemory }: { maxBytes: number; maxMemory: number }): string | undefined {
  const needed = Math.ceil(maxBytes * ALLOCATOR_FACTOR) + JOBS_BYTES
  if (maxMemory === 0 || needed <= maxMemory) return undefined
  const fits = Math.floor((maxMemory - JOBS_BYTES) / ALLOCATOR_FACTOR)
  return (
    `IMAGES_VALKEY_MAX_BYTES=${maxBytes} does not fit into the server at VALKEY_URL, whose maxmemory is ${maxMemory}: ` +
    `pictures need a quarter more than their bytes, and jobs ${JOBS_BYTES}. Set maxmemory to at least ${needed}` +
    `${fits < 2 ** 20 ? '' : `, or IMAGES_VALKEY_MAX_BYTES to at most ${fits}`}.`
  )
}
