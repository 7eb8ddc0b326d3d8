/** A Valkey that is full: no picture is begun for it, and once there is room pictures are stored again. */
import { pino } from 'pino'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { fixedSecret } from '../../src/auth/secret.ts'
import type { ImageStore } from '../../src/images/image.ts'
import { createValkeyImages } from '../../src/images/valkey.ts'
import { watchStore } from '../../src/images/watch.ts'
import { eventually } from '../support/eventually.ts'
import { makeImage, makePng } from '../support/pictures.ts'
import { findValkeyServer, startValkey, type ValkeyServer } from '../support/valkey.ts'

const log = pino({ level: 'silent' })
const MIB = 2 ** 20
/** Of noise: about 200 kB. */
const SIDE = 256

describe.skipIf(findValkeyServer() === undefined)('pictures in a full Valkey', () => {
  let server: ValkeyServer
  let store: ImageStore

  beforeAll(async () => {
    server = await startValkey({ maxmemory: '100mb' })
    const options = { url: fixedSecret(server.url), maxBytes: 10 * MIB, log, retryForMs: 30_000 }
    store = watchStore(await createValkeyImages(options), { log })
  })
  afterAll(async () => {
    await store?.close()
    await server?.stop()
  })

  const limit = (maxmemory: string) => server.ask((client) => client.config('SET', 'maxmemory', maxmemory))
  const fill = () => limit('1')
  const empty = () => limit('100mb')

  test('is found before a picture is drawn, and its end too', async () => {
    await store.check?.()
    expect(store.trouble?.()).toBeUndefined()
    await fill()
    await eventually(() =>
      expect(store.trouble?.()).toMatchObject({
        code: 'overloaded',
        message: 'The picture store is full; try again later.',
      }),
    )
    await expect(store.check?.()).rejects.toThrow('The picture store is full')
    await empty()
    await eventually(() => expect(store.trouble?.()).toBeUndefined())
  })

  test('that has too little room for the next picture is found before one is lost', async () => {
    const png = await makePng({ width: SIDE, height: SIDE, noise: true })
    const times = {
      created_at: new Date().toISOString(),
      expires_at: new Date(Date.now() + 600_000).toISOString(),
    }
    await store.put(makeImage(png, { id: 'last', ...times }))
    const used = () =>
      server.ask(async (client) => Number((await client.info('memory')).match(/^used_memory:(\d+)/m)?.[1]))
    await eventually(async () => {
      // Again and again, because what connections take comes and goes. Everything small is still written.
      await limit(String((await used()) + Math.round(png.byteLength / 2)))
      expect(store.trouble?.()).toMatchObject({ message: 'The picture store is full; try again later.' })
    })
    expect(await store.head('last')).toBeDefined()
    await empty()
    await eventually(() => expect(store.trouble?.()).toBeUndefined())
  })

  test('a picture that is there already is tried until there is room', async () => {
    const png = await makePng({ width: SIDE, height: SIDE, noise: true })
    const now = new Date().toISOString()
    const later = new Date(Date.now() + 600_000).toISOString()
    const image = makeImage(png, { id: 'kept', created_at: now, expires_at: later })
    await fill()
    const stored = store.put(image)
    await eventually(() => expect(store.trouble?.()).toBeDefined())
    await empty()
    expect(await stored).toMatchObject({ id: 'kept' })
    expect(store.trouble?.()).toBeUndefined()
  })
})
