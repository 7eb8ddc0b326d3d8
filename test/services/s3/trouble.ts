/** A store that is slow, refuses, or is away. */
import { describe, expect, it } from 'vitest'
import { makeImage, makePng } from '../../support/pictures.ts'
import { createTroublesomeProxy } from './proxy.ts'
import { owner, type S3Suite } from './suite.ts'

/** Longer than SeaweedFS takes to start again on a busy machine, in milliseconds. */
const AWAY_MS = 120_000

export function trouble(suite: S3Suite): void {
  describe('with a store in trouble', () => {
    const proxy = createTroublesomeProxy(suite)
    slow(suite, proxy)
    refusals(suite, proxy)
    away(suite, proxy)
  })
}

type Proxy = ReturnType<typeof createTroublesomeProxy>

function slow(suite: S3Suite, proxy: Proxy): void {
  const { openStore, idsIn } = suite

  it('gives up in bounded time on one that does not answer', async () => {
    await (await openStore()).put(makeImage(suite.png))
    // Without these a put would go on for longer than the bound below.
    const store = await proxy.openStore({ timeoutMs: 2000, retryForMs: 3000 })
    proxy.trouble = () => {}
    const start = performance.now()
    const calls = [
      store.get('picture-1'),
      store.head('picture-1'),
      store.list(owner, { limit: 10 }),
      store.delete('picture-1'),
      store.sweep(),
      store.put(makeImage(suite.png, { id: 'picture-2' })),
    ]
    for (const { reason } of (await Promise.allSettled(calls)) as PromiseRejectedResult[]) {
      expect(reason).toMatchObject({
        code: 'overloaded',
        message: expect.stringContaining('The picture store cannot be reached'),
        retryAfterSeconds: 5,
      })
      expect(reason.cause.message).toContain('TimeoutError')
    }
    expect(performance.now() - start).toBeLessThan(60_000)
  })

  it('waits for one that is slow', async () => {
    const store = await proxy.openStore()
    proxy.trouble = (pass) => void setTimeout(pass, 1000)
    const image = makeImage(suite.png)
    expect(await store.put(image)).toEqual(image.record)
    expect(await store.get('picture-1')).toEqual(image)
    expect(await idsIn(store)).toEqual(['picture-1'])
    expect(await store.delete('picture-1')).toBe(true)
  })
}

function refusals(suite: S3Suite, proxy: Proxy): void {
  const { openStore, keys } = suite

  it('says that its key is refused at once, and works again with the right one', async () => {
    let secretKey = suite.seaweedfs.secretKey
    let requests = 0
    const store = await openStore({
      secretKey: () => secretKey,
      fetch: (input, init) => {
        requests += 1
        return fetch(input, init)
      },
    })
    secretKey = 'a-wrong-secret'
    requests = 0
    await expect(store.put(makeImage(suite.png))).rejects.toMatchObject({
      code: 'internal',
      message: expect.stringContaining('the picture store refused'),
      cause: expect.objectContaining({ status: 403, code: 'SignatureDoesNotMatch' }),
    })
    expect(requests, 'not tried again').toBe(1)
    secretKey = suite.seaweedfs.secretKey
    expect(await store.put(makeImage(suite.png))).toEqual(makeImage(suite.png).record)
  })

  it.each<[string, number, string]>([
    ['500', 500, 'InternalError'],
    ['503 SlowDown', 503, 'SlowDown'],
    ['429 SlowDown', 429, 'SlowDown'],
  ])('tries again after %s', async (_, status, code) => {
    const store = await proxy.openStore()
    let failures = 3
    proxy.trouble = (pass, _drop, answer) => (failures-- > 0 ? answer(status, code) : pass())
    expect(await store.put(makeImage(suite.png))).toEqual(makeImage(suite.png).record)
  })

  it('tries again when the connection ends early', async () => {
    const store = await proxy.openStore()
    let failures = 3
    proxy.trouble = (pass, drop) => (failures-- > 0 ? drop() : pass())
    expect(await store.put(makeImage(suite.png))).toEqual(makeImage(suite.png).record)
  })

  it('takes a picture as stored whose first answer was lost', async () => {
    let isLost = false
    const store = await openStore({
      fetch: async (input, init) => {
        const response = await fetch(input, init)
        if (isLost || init?.method !== 'PUT' || !String(input).endsWith('.png')) return response
        isLost = true
        throw new TypeError('connection lost')
      },
    })
    const image = makeImage(suite.png)
    expect(await store.put(image)).toEqual(image.record)
    expect(isLost).toBe(true)
    expect(await keys()).toHaveLength(3)
  })

  it.each<[string, number, string]>([
    ['does not try again after a refusal', 403, 'AccessDenied'],
    ['does not follow a redirect', 307, 'TemporaryRedirect'],
  ])('%s', async (_, status, code) => {
    const store = await proxy.openStore()
    proxy.trouble = (_pass, _drop, answer) => answer(status, code)
    proxy.seen = []
    await expect(store.get('picture-1')).rejects.toMatchObject({
      code: 'internal',
      message: expect.stringContaining('refused'),
    })
    expect(proxy.seen).toHaveLength(1)
  })
}

function away(suite: S3Suite, proxy: Proxy): void {
  const { openStore, idsIn } = suite

  it('ends what is under way when it is closed', async () => {
    // Nothing but the end of the store ends a request here.
    const store = await proxy.openStore({ timeoutMs: 600_000, retryForMs: 600_000 })
    proxy.trouble = () => {}
    const [getting, putting] = [store.get('picture-1'), store.put(makeImage(suite.png))].map((call) =>
      call.catch((error) => error.code),
    )
    await store.close()
    expect(await Promise.all([getting, putting])).toEqual(['overloaded', 'overloaded'])
  })

  it(
    'keeps a picture until a killed store is back',
    async () => {
      const store = await openStore({ retryForMs: AWAY_MS })
      await store.put(makeImage(suite.png, { id: 'before' }))
      const large = await makePng({ width: 512, height: 512, noise: true })
      await suite.seaweedfs.kill()
      const putting = store.put(makeImage(large))
      await expect(store.head('before')).rejects.toMatchObject({ code: 'overloaded' })
      suite.seaweedfs.restart()
      expect((await putting).bytes).toBe(large.byteLength)
      expect(Buffer.compare((await store.get('picture-1'))!.png, large)).toBe(0)
      expect((await idsIn(store)).sort()).toEqual(['before', 'picture-1'])
    },
    AWAY_MS + 30_000,
  )

  it(
    'survives being killed in the middle of a put',
    async () => {
      const store = await proxy.openStore({ retryForMs: AWAY_MS })
      const large = await makePng({ width: 512, height: 512, noise: true })
      let isKilled = false
      proxy.trouble = (pass) => {
        pass()
        if (isKilled || !/^PUT .*\.png$/.test(proxy.seen.at(-1)!)) return
        isKilled = true
        void suite.seaweedfs.kill().then(() => suite.seaweedfs.restart())
      }
      expect((await store.put(makeImage(large))).bytes).toBe(large.byteLength)
      expect(isKilled).toBe(true)
      expect(Buffer.compare((await store.get('picture-1'))!.png, large)).toBe(0)
    },
    AWAY_MS + 30_000,
  )

  it('says so when the store stays away', async () => {
    const store = await openStore({ retryForMs: 500 })
    await suite.seaweedfs.kill()
    try {
      await expect(store.put(makeImage(suite.png))).rejects.toMatchObject({
        code: 'overloaded',
        message:
          'The picture could not be stored. The picture store cannot be reached at the moment; try again shortly.',
      })
    } finally {
      suite.seaweedfs.restart()
    }
  })
}
