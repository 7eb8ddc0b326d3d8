/** The stores of pictures, by how many they hold. */
import { randomUUID } from 'node:crypto'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { pino } from 'pino'
import { fixedSecret } from '../../src/auth/secret.ts'
import { createFilesystemImages } from '../../src/images/filesystem/filesystem.ts'
import type { StoredImage } from '../../src/images/image.ts'
import { createMemoryImages } from '../../src/images/memory.ts'
import { createValkeyImages } from '../../src/images/valkey.ts'
import { makeImage, makePng, NOON } from '../../test/support/pictures.ts'
import { cpuMicros, type Law, type Stand } from './law.ts'
import type { MeasuredValkey } from './valkey.ts'

const OWNERS = 10
/** Lists in a round, and puts where a put is not cheap. */
const CALLS = 10
/** Pictures on a page. */
const PAGE = 20
/** The share of the pictures in memory that a round replaces, so that a sweep finds as many expired. */
const REPLACED = 1 / 50
const AT_ONCE = 50
/** Resolution of the timer that tells a stall, and its time to start and to end; milliseconds. */
const TIMER_MS = 1
const SETTLE_MS = 5
const MAX_BYTES = 2 ** 40
const STALL = 'loop stall in a sweep, ms'
const NONE = 'list for one who has none, us'
/** What nobody notices: a request to the server takes a millisecond. */
const FLOORS = { [STALL]: 10, [NONE]: 100 }
const PNG = await makePng({ width: 8, height: 8 })

export function storeLaws({ valkey, quick }: { valkey: MeasuredValkey | undefined; quick: boolean }): Law[] {
  const small = quick ? 500 : 1000
  const law = (where: string, setUp: Law['setUp']): Law => ({
    ...{ where, by: 'stored pictures', small, floors: FLOORS, setUp },
  })
  return [
    { ...law('pictures in memory', openMemory), small: quick ? 500 : 2000 },
    law('pictures in a folder', openFolder),
    ...(valkey ? [law('pictures in Valkey', (n) => openValkey(valkey, n))] : []),
  ]
}

async function openMemory(stored: number): Promise<Stand> {
  const pictures = createPictures(stored)
  const store = createMemoryImages({ maxBytes: MAX_BYTES, now: pictures.now })
  for (let put = 0; put < stored; put += 1) await store.put(pictures.next())
  const replaced = stored * REPLACED
  return {
    async round() {
      const put = await timesOf(replaced, () => store.put(pictures.next()))
      const list = await timesOf(CALLS, () => store.list('owner 1', { limit: PAGE }))
      const none = await timesOf(CALLS, () => store.list('nobody', { limit: PAGE }))
      pictures.expire()
      let sweep = 0
      const stall = await stallOf(async () => {
        sweep = await timesOf(1, () => store.sweep())
      })
      return {
        'put, us': put,
        'list, us': list,
        [NONE]: none,
        'sweep per expired picture, us': sweep / replaced,
        [STALL]: stall,
      }
    },
    close: () => store.close(),
  }
}

async function openFolder(stored: number): Promise<Stand> {
  const pictures = createPictures(stored)
  const directory = await mkdtemp(join(tmpdir(), 'growth-'))
  // As the store does it, without the fsync of every picture.
  await timesAtOnce(stored, async () => {
    const { record, png } = pictures.next()
    const folder = join(directory, `${record.id}.image`)
    await mkdir(folder)
    await writeFile(join(folder, 'picture.png'), png)
    await writeFile(join(folder, 'record.json'), JSON.stringify(record))
  })
  const store = await createFilesystemImages({ directory, maxBytes: MAX_BYTES, now: pictures.now })
  return {
    async round() {
      const put = await timesOf(CALLS, () => store.put(pictures.next()))
      const list = await timesOf(CALLS, () => store.list('owner 1', { limit: PAGE }))
      pictures.expire()
      return {
        'CPU of a put, us': put,
        'CPU of a list, us': list,
        [STALL]: await stallOf(() => store.sweep()),
      }
    },
    async close() {
      await store.close()
      await rm(directory, { recursive: true })
    },
  }
}

async function openValkey(valkey: MeasuredValkey, stored: number): Promise<Stand> {
  const pictures = createPictures(stored)
  const store = await createValkeyImages({
    ...{ url: fixedSecret(valkey.url), prefix: randomUUID(), maxBytes: MAX_BYTES, now: pictures.now },
    log: pino({ level: 'silent' }),
  })
  const put = () => store.put(pictures.next())
  await timesAtOnce(stored, put)
  const micros = async (calls: number, act: () => Promise<unknown>, per = calls) =>
    (await valkey.scripts(() => timesAtOnce(calls, act))).micros / per
  return {
    async round() {
      const costs = {
        'put, us': await micros(CALLS, put),
        'list, us': await micros(CALLS, () => store.list('owner 1', { limit: PAGE })),
      }
      pictures.expire()
      return { ...costs, 'sweep per expired picture, us': await micros(1, () => store.sweep(), CALLS) }
    },
    close: () => store.close(),
  }
}

/** Pictures of one store, each made a second after the one before it. */
function createPictures(stored: number) {
  let made = 0
  let clock = NOON
  const lifeMs = stored * 1000
  return {
    now: () => clock,
    next(): StoredImage {
      const created = NOON + made * 1000
      made += 1
      return makeImage(PNG, {
        id: randomUUID(),
        owner: `owner ${made % OWNERS}`,
        created_at: new Date(created).toISOString(),
        expires_at: new Date(created + lifeMs).toISOString(),
      })
    },
    /** From now on all but the last `stored` of them have expired. */
    expire(): void {
      clock = NOON + (made - stored - 1) * 1000 + lifeMs
    },
  }
}

/** CPU time of one of several acts, one after the other, in microseconds. */
async function timesOf(count: number, act: () => Promise<unknown>): Promise<number> {
  const all = await cpuMicros(async () => {
    for (let done = 0; done < count; done += 1) await act()
  })
  return all / count
}

async function timesAtOnce(count: number, act: () => Promise<unknown>): Promise<void> {
  for (let done = 0; done < count; done += AT_ONCE)
    await Promise.all(Array.from({ length: Math.min(AT_ONCE, count - done) }, act))
}

/** The longest time for which the event loop did not come to its timers during an act, in milliseconds. */
async function stallOf(act: () => Promise<unknown>): Promise<number> {
  const delay = monitorEventLoopDelay({ resolution: TIMER_MS })
  delay.enable()
  await sleep(SETTLE_MS)
  await act()
  await sleep(SETTLE_MS)
  delay.disable()
  return Math.max(0, delay.max / 1e6 - TIMER_MS)
}
