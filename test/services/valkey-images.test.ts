import { Redis } from 'ioredis'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { fixedSecret } from '../../src/auth/secret.ts'
import type { ImageStore } from '../../src/images/image.ts'
import { createValkeyImages, type ValkeyImagesOptions } from '../../src/images/valkey.ts'
import type { Logger } from '../../src/telemetry/log.ts'
import { imageStoreContract } from '../backends/images.ts'
import { eventually, within } from '../support/eventually.ts'
import { HOUR_MS, makeImage, makePng, NOON } from '../support/pictures.ts'
import { findValkeyServer, startValkey, type ValkeyServer } from '../support/valkey.ts'

const MIB = 2 ** 20

describe.skipIf(findValkeyServer() === undefined)('pictures in Valkey', () => {
  let server: ValkeyServer
  let client: Redis
  let opened: ImageStore[]
  let logged: Record<string, unknown>[]
  let prefix: string
  let prefixes = 0
  let now: number
  let png: Buffer

  const owner = makeImage(Buffer.alloc(0)).record.owner
  const at = (ms: number) => new Date(ms).toISOString()
  const write = (entry: object) => void logged.push(entry as Record<string, unknown>)
  const log = { info: write, warn: write, error: write, debug: write } as unknown as Logger

  const openStore = async (options: Partial<ValkeyImagesOptions> = {}) => {
    const defaults = { url: fixedSecret(server.url), maxBytes: 100 * MIB, log, prefix, now: () => now }
    const store = await createValkeyImages({ ...defaults, ...options })
    opened.push(store)
    return store
  }
  const key = (name: string) => `${prefix}:images:${name}`
  const keys = async () => (await client.keys(`${prefix}:*`)).map((name) => name.slice(key('').length)).sort()
  const bytesTaken = async () => Number(await client.get(key('bytes')))
  const usedMemory = async () => Number((await client.info('memory')).match(/^used_memory:(\d+)/m)?.[1])
  const idsIn = async (store: ImageStore) =>
    (await store.list(owner, { limit: 100 })).records.map(({ id }) => id)

  beforeAll(async () => {
    server = await startValkey({ appendfsync: 'always' })
    client = new Redis(server.url)
    client.on('error', () => {})
    png = await makePng({ width: 64, height: 64 })
  })
  afterAll(async () => {
    client?.disconnect()
    await server?.stop()
  })
  beforeEach(() => {
    prefix = `store-${++prefixes}`
    now = NOON
    opened = []
    logged = []
  })
  afterEach(async () => {
    await Promise.all(opened.map((store) => store.close()))
  })

  imageStoreContract('the Valkey store', (options) =>
    createValkeyImages({ url: fixedSecret(server.url), log, prefix, ...options }),
  )

  it('keeps every byte there is', async () => {
    const store = await openStore()
    const every = Buffer.from(Array.from({ length: 1024 }, (_, index) => index % 256))
    await store.put(makeImage(every))
    expect(Buffer.compare((await store.get('picture-1'))!.png, every)).toBe(0)
  })

  it('takes a part of a larger buffer for what it is', async () => {
    const store = await openStore()
    await store.put(makeImage(new Uint8Array(Buffer.from('-picture-').buffer.slice(0)).subarray(1, 8)))
    expect((await store.get('picture-1'))!.png.byteLength).toBe(7)
  })

  it('leaves nothing of a deleted picture', async () => {
    const store = await openStore()
    await store.put(makeImage(png))
    expect(await keys()).toHaveLength(6)
    await store.delete('picture-1')
    expect(await keys()).toEqual(['bytes'])
    expect(await bytesTaken()).toBe(0)
  })

  describe('of two processes', () => {
    it('are served, listed and deleted by the other one', async () => {
      const [one, other] = [await openStore(), await openStore()]
      const image = makeImage(png)
      await one.put(image)
      expect((await other.get('picture-1'))?.record).toEqual(image.record)
      expect(await idsIn(other)).toEqual(['picture-1'])
      expect(await other.delete('picture-1')).toBe(true)
      expect(await one.get('picture-1')).toBeUndefined()
      expect(await idsIn(one)).toEqual([])
    })

    it('have one first writer', async () => {
      const stores = [await openStore(), await openStore()]
      const answers = await Promise.all(
        Array.from({ length: 20 }, (_, seed) => stores[seed % 2]!.put(makeImage(png, { seed }))),
      )
      const kept = await stores[0]!.head('picture-1')
      expect(answers).toEqual(answers.map(() => kept))
    })

    it('never exceed the bound, with 50 puts at once: the newest are left', async () => {
      const maxBytes = MIB
      const stores = [await openStore({ maxBytes }), await openStore({ maxBytes })]
      const large = await makePng({ width: 184, height: 184, noise: true })
      let most = 0
      let watching = true
      const watch = (async () => {
        while (watching) most = Math.max(most, await bytesTaken())
      })()
      await Promise.all(
        Array.from({ length: 50 }, (_, index) =>
          stores[index % 2]!.put(
            makeImage(large, { id: `p${String(index).padStart(2, '0')}`, created_at: at(NOON + index) }),
          ),
        ),
      )
      watching = false
      await watch
      expect(most).toBeLessThanOrEqual(maxBytes)
      expect(await idsIn(stores[0]!)).toHaveLength(Math.floor(maxBytes / ((await bytesTaken()) / 10)))
      const charged = await client.hvals(key('entries'))
      expect(charged.reduce((sum, entry) => sum + Number(entry.split(' ')[0]), 0)).toBe(await bytesTaken())
      const left = await keys()
      expect(left.filter((name) => name.startsWith('picture:'))).toHaveLength(charged.length)
      expect(await client.zrange(key('weights'), '0', '-1', 'WITHSCORES')).toEqual([
        expect.any(String),
        String(await bytesTaken()),
      ])
      expect(await client.zcard(key('by-expiry'))).toBe(charged.length)
    })

    it('go oldest first, whoever stored them', async () => {
      const large = await makePng({ width: 184, height: 184, noise: true })
      const maxBytes = 3.5 * large.byteLength
      const stores = [await openStore({ maxBytes }), await openStore({ maxBytes })]
      const puts = [3, 1, 2, 5, 4].map((minute, index) => ({
        store: stores[index % 2]!,
        image: makeImage(large, { id: `p${minute}`, created_at: at(NOON + minute * 60_000) }),
      }))
      for (const { store, image } of puts) await store.put(image)
      expect(await idsIn(stores[0]!)).toEqual(['p5', 'p4', 'p3'])
    })

    it('are swept once between them, more than one call removes', async () => {
      const [one, other] = [await openStore(), await openStore()]
      await Promise.all(
        Array.from({ length: 250 }, (_, index) => one.put(makeImage(png, { id: `p${index}` }))),
      )
      now = NOON + HOUR_MS
      const counts = await Promise.all([one.sweep(), other.sweep()])
      expect(counts[0] + counts[1]).toBe(250)
      expect(await keys()).toEqual(['bytes'])
      expect(await bytesTaken()).toBe(0)
    })
  })

  describe('that expire', () => {
    it('vanish without any process, and their bytes are free for the next', async () => {
      const store = await openStore({ now: Date.now, maxBytes: MIB })
      const large = await makePng({ width: 512, height: 512, noise: true })
      const image = (id: string, ttlMs: number) =>
        makeImage(large, { id, created_at: at(Date.now()), expires_at: at(Date.now() + ttlMs) })
      const older = { id: 'older', created_at: at(Date.now() - 1000), expires_at: at(Date.now() + HOUR_MS) }
      await store.put(makeImage(png, older))
      // Time enough to be stored.
      await store.put(image('short', 5000))
      await eventually(async () => expect(await client.exists(key('picture:short'))).toBe(0))
      expect(await bytesTaken()).toBeGreaterThan(large.byteLength)
      await eventually(async () => expect(await store.head('short')).toBeUndefined())
      await store.put(image('next', HOUR_MS))
      expect((await client.hkeys(key('entries'))).sort()).toEqual(['next', 'older'])
      expect(await bytesTaken()).toBeLessThan(MIB)
    })

    it('all go before one that is still valid, however many they are', async () => {
      const room = 400 * (makeImage(png).record.prompt.length + png.byteLength + 2048)
      const store = await openStore({ maxBytes: room })
      await store.put(
        makeImage(png, { id: 'older', created_at: at(NOON - 1), expires_at: at(NOON + 3 * HOUR_MS) }),
      )
      await Promise.all(
        Array.from({ length: 350 }, (_, index) => store.put(makeImage(png, { id: `p${index}` }))),
      )
      const taken = await bytesTaken()
      now = NOON + HOUR_MS
      const times = { created_at: at(now), expires_at: at(now + HOUR_MS) }
      await store.put(makeImage(Buffer.alloc(taken - 10_000), { id: 'new', ...times }))
      expect((await client.hkeys(key('entries'))).sort().filter((id) => !id.startsWith('p'))).toEqual([
        'new',
        'older',
      ])
    })
  })

  it('cost the server the same commands, however many there are', async () => {
    const store = await openStore()
    const costOf = async (id: string) => {
      const before = await server.commandCalls()
      await store.put(makeImage(png, { id, created_at: at(NOON + 1) }))
      const after = await server.commandCalls()
      const ignored = ['info', 'ping', 'hello', 'client', 'command', 'auth', 'select']
      return Object.entries(after)
        .filter(([name]) => !ignored.some((word) => name.startsWith(word)))
        .reduce((sum, [name, calls]) => sum + calls - (before[name] ?? 0), 0)
    }
    await store.put(makeImage(png, { id: 'first' }))
    const few = await costOf('few')
    await Promise.all(
      Array.from({ length: 1000 }, (_, index) => store.put(makeImage(png, { id: `p${index}` }))),
    )
    expect(await costOf('many')).toBe(few)
    expect(few).toBeLessThan(15)
  })

  it.each([100, 2000, 330_000, 2_700_000])(
    'of %i bytes take no more of the server than a quarter above the bound',
    async (size) => {
      const maxBytes = size < 100_000 ? 2 * MIB : 32 * MIB
      const store = await openStore({ maxBytes })
      await store.put(makeImage(png, { id: 'first' }))
      const before = await usedMemory()
      for (let index = 0; (await bytesTaken()) < maxBytes - size - 4096; index += 1)
        await store.put(makeImage(Buffer.alloc(size, index), { id: `${crypto.randomUUID()}` }))
      // What connections need for a moment is not what pictures take.
      await eventually(async () => expect((await usedMemory()) - before).toBeLessThan(maxBytes * 1.25))
      await client.flushall()
    },
  )

  describe('on a server in trouble', () => {
    it('are there after it was killed and started again with its append-only file', async () => {
      const store = await openStore()
      const images = Array.from({ length: 20 }, (_, index) => makeImage(png, { id: `p${index}` }))
      for (const image of images) await store.put(image)
      await server.kill()
      await expect(store.get('p0')).rejects.toMatchObject({
        code: 'overloaded',
        message:
          'The picture could not be read. The picture store cannot be reached at the moment; try again shortly.',
        retryAfterSeconds: 5,
      })
      await expect(store.list(owner, { limit: 10 })).rejects.toMatchObject({ code: 'overloaded' })
      await expect(store.check!()).rejects.toMatchObject({ code: 'overloaded' })
      const during = store.put(makeImage(png, { id: 'during' }))
      await server.restart()
      expect((await during).id).toBe('during')
      for (const { record } of images)
        expect(Buffer.compare((await store.get(record.id))!.png, png), record.id).toBe(0)
      await store.check!()
      expect(logged.map(({ event }) => event)).toEqual(
        expect.arrayContaining(['picture store is away', 'picture store is back']),
      )
    })

    it('are all stored although it hangs for 5 s while they come', async () => {
      const store = await openStore()
      const large = await makePng({ width: 512, height: 512, noise: true })
      const put = (id: string) => store.put(makeImage(large, { id }))
      await put('before')
      server.freeze()
      const puts = Array.from({ length: 20 }, (_, index) => put(`p${index}`))
      await new Promise((resolve) => setTimeout(resolve, 5000))
      server.thaw()
      expect((await Promise.all(puts)).map(({ id }) => id)).toEqual(puts.map((_, index) => `p${index}`))
      for (const [index] of puts.entries())
        expect((await store.get(`p${index}`))?.png.byteLength).toBe(large.byteLength)
      const entries = await client.hvals(key('entries'))
      expect(await bytesTaken(), 'each of them is charged once').toBe(
        entries.reduce((sum, entry) => sum + Number(entry.split(' ')[0]), 0),
      )
    })

    it('can be read again after it hung for longer than a command may take', async () => {
      const store = await openStore()
      await store.put(makeImage(png))
      server.freeze()
      await expect(store.head('picture-1')).rejects.toMatchObject({ code: 'overloaded' })
      // Known to be away: that takes less than a command that goes unanswered.
      await within(1000, () => expect(store.get('picture-1')).rejects.toMatchObject({ code: 'overloaded' }))
      server.thaw()
      await eventually(async () => expect(await store.get('picture-1')).toBeDefined())
    })

    it('wait in memory while it is full, and fail in the end with its reason', async () => {
      const store = await openStore({ retryForMs: 60_000 })
      const impatient = await openStore({ retryForMs: 300 })
      await client.config('SET', 'maxmemory', '1')
      try {
        await expect(impatient.put(makeImage(png, { id: 'lost' }))).rejects.toMatchObject({
          code: 'overloaded',
          message: 'The picture could not be stored. The picture store is full; try again later.',
        })
        const waiting = store.put(makeImage(png))
        await new Promise((resolve) => setTimeout(resolve, 300))
        await client.config('SET', 'maxmemory', '0')
        expect((await waiting).id).toBe('picture-1')
      } finally {
        await client.config('SET', 'maxmemory', '0')
      }
    })

    it('end their waiting when the store is closed', async () => {
      const store = await openStore()
      await server.kill()
      try {
        const putting = store.put(makeImage(png)).catch((error) => error.code)
        await store.close()
        expect(await putting).toBe('overloaded')
      } finally {
        await server.restart()
      }
    })
  })

  describe('at the start', () => {
    const misfit =
      /^IMAGES_VALKEY_MAX_BYTES=104857600 does not fit .* maxmemory is 104857600: .* at most 30198988\.$/

    it('are refused where they do not fit, with both numbers and the setting', async () => {
      await client.config('SET', 'maxmemory', String(100 * MIB))
      try {
        await expect(openStore()).rejects.toThrow(misfit)
        expect((await openStore({ maxBytes: 28 * MIB })).check).toBeDefined()
      } finally {
        await client.config('SET', 'maxmemory', '0')
      }
    })

    it('wait for a server that is not there yet, and complain then', async () => {
      const late = await startValkey({ maxmemory: String(100 * MIB), appendonly: 'no' })
      await late.kill()
      const store = await openStore({ url: fixedSecret(late.url) })
      await expect(store.head('picture-1')).rejects.toMatchObject({ code: 'overloaded' })
      expect(logged).toContainEqual(expect.objectContaining({ event: 'picture store is away' }))
      const putting = store.put(makeImage(png))
      await late.restart()
      try {
        expect((await putting).id).toBe('picture-1')
        await eventually(() =>
          expect(logged).toContainEqual(
            expect.objectContaining({
              event: 'the picture store is too small',
              message: expect.stringMatching(misfit),
            }),
          ),
        )
        expect(logged).toContainEqual(
          expect.objectContaining({ event: 'PICTURES MAY BE LOST', setting: 'set appendonly yes' }),
        )
      } finally {
        await late.stop()
      }
    })
  })
})
