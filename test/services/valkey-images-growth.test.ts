/** What pictures in Valkey cost when there are many, of many owners: in commands and in memory. */
import { Redis } from 'ioredis'
import { pino } from 'pino'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { fixedSecret } from '../../src/auth/secret.ts'
import type { ImageStore } from '../../src/images/image.ts'
import { createValkeyImages } from '../../src/images/valkey.ts'
import { eventually } from '../support/eventually.ts'
import { HOUR_MS, makeImage, NOON } from '../support/pictures.ts'
import { findValkeyServer, startValkey, type ValkeyServer } from '../support/valkey.ts'

const log = pino({ level: 'silent' })
const MIB = 2 ** 20
const PNG = Buffer.alloc(68, 1)
/** Sent beside the scripts. */
const IGNORED = [
  'info',
  'ping',
  'hello',
  'client',
  'command',
  'auth',
  'select',
  'flushall',
  'evalsha',
  'eval',
]

describe.skipIf(findValkeyServer() === undefined)('many pictures in Valkey', () => {
  let server: ValkeyServer
  let client: Redis
  let now: number

  beforeAll(async () => {
    server = await startValkey({ appendonly: 'no' })
    client = new Redis(server.url)
    client.on('error', () => {})
  })
  afterAll(async () => {
    client?.disconnect()
    await server?.stop()
  })
  beforeEach(async () => {
    now = NOON
    await client.flushall()
  })

  const open = (maxBytes: number) =>
    createValkeyImages({ url: fixedSecret(server.url), maxBytes, log, now: () => now })
  const at = (ms: number) => new Date(ms).toISOString()
  const image = (index: number, owner: string, ttlMs = HOUR_MS) =>
    makeImage(PNG, {
      id: `p${String(index).padStart(6, '0')}`,
      owner,
      created_at: at(now + index),
      expires_at: at(now + ttlMs),
    })
  const commandsOf = async (act: () => Promise<unknown>) => {
    const before = await server.commandCalls()
    await act()
    const after = await server.commandCalls()
    return Object.entries(after)
      .filter(([name]) => !IGNORED.some((word) => name.startsWith(word)))
      .reduce((sum, [name, calls]) => sum + calls - (before[name] ?? 0), 0)
  }
  const fill = async (store: ImageStore, count: number, ownerOf: (index: number) => string) => {
    for (let start = 0; start < count; start += 100)
      await Promise.all(
        Array.from({ length: Math.min(100, count - start) }, (_, index) =>
          store.put(image(start + index, ownerOf(start + index))),
        ),
      )
  }
  /** Counted once for few and once for many, in a full store: every third picture has an owner of its own. */
  const costs = async (count: number) => {
    await client.flushall()
    const probe = await open(100 * MIB)
    await fill(probe, count, (index) => (index % 3 === 0 ? `owner-${index}` : 'ann'))
    const taken = Number(await client.get('diffusers-mcp:images:bytes'))
    await probe.close()
    const store = await open(taken)
    const put = await commandsOf(() => store.put(image(count, 'ann')))
    const list = await commandsOf(() => store.list('ann', { limit: 20 }))
    const none = await commandsOf(() => store.list('nobody', { limit: 20 }))
    await store.close()
    return { put, list, none }
  }

  test('a picture that makes room, and a page, cost the same commands as among few', async () => {
    const few = await costs(90)
    expect(await costs(3000)).toEqual(few)
    expect(few.put).toBeLessThan(35)
    expect(few.list).toBeLessThan(2 * 21 + 5)
    expect(few.none).toBeLessThan(3)
  })

  test('a page passes over what has expired once', async () => {
    const store = await open(100 * MIB)
    await store.put(image(0, 'ann', 2 * HOUR_MS))
    // The first of them is there already, and lives longer.
    await fill(store, 350, () => 'ann')
    now = NOON + HOUR_MS
    const page = async () => (await store.list('ann', { limit: 20 })).records.map(({ id }) => id)
    expect(await page()).toEqual(['p000000'])
    expect(await commandsOf(page)).toBeLessThan(6)
    await store.close()
  })

  test.each([1, 2000])(
    'of %i owners take no more of the server than a quarter above the bound',
    async (owners) => {
      const used = async () => Number((await client.info('memory')).match(/^used_memory:(\d+)/m)?.[1])
      const store = await open(4 * MIB)
      await store.put(image(0, 'first'))
      const before = await used()
      await fill(store, 2000, (index) => `owner-${index % owners}`)
      await eventually(async () => {
        const taken = Number(await client.get('diffusers-mcp:images:bytes'))
        expect((await used()) - before).toBeLessThan(taken * 1.25)
      })
      await store.close()
    },
  )
})
