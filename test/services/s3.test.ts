import { createServer, request, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { ImageStore } from '../../src/images/image.ts'
import { createS3Images } from '../../src/images/s3/s3.ts'
import { imageStoreContract } from '../backends/images.ts'
import { HOUR_MS, makeImage, makePng, NOON } from '../support/pictures.ts'
import { findPython, type Seaweedfs, startSeaweedfs } from '../support/seaweedfs.ts'

/** Longer than SeaweedFS takes to start again on a busy machine, in milliseconds. */
const AWAY_MS = 120_000

const SKIPPED = findPython() === undefined

if (SKIPPED)
  describe('the S3 store', () => {
    it.skip('is not tested: Python 3.9 or newer with venv, which installs SeaweedFS, is not on the PATH')
  })
else {
  let seaweedfs: Seaweedfs
  beforeAll(async () => {
    seaweedfs = await startSeaweedfs()
  }, 300_000)
  afterAll(() => seaweedfs?.stop())

  type Options = Parameters<typeof createS3Images>[0]
  const settings = (): Omit<Options, 'bucket'> => ({
    endpoint: seaweedfs.endpoint,
    accessKey: () => seaweedfs.accessKey,
    secretKey: () => seaweedfs.secretKey,
  })

  let folders = 0
  let contractBucket: string
  imageStoreContract('the S3 store', async (options) => {
    contractBucket ??= await seaweedfs.createBucket()
    return createS3Images({
      ...settings(),
      ...options,
      bucket: contractBucket,
      prefix: `stores/${++folders}`,
    })
  })

  describe('the S3 store', () => {
    const owner = makeImage(Buffer.alloc(0)).record.owner
    const at = (ms: number) => new Date(ms).toISOString()
    let png: Buffer
    let bucket: string
    let prefix: string
    let now: number
    let opened: ImageStore[]

    const openStore = async (options: Partial<Options> = {}) => {
      const store = await createS3Images({ ...settings(), bucket, prefix, now: () => now, ...options })
      opened.push(store)
      return store
    }
    const idsIn = async (store: ImageStore) =>
      (await store.list(owner, { limit: 100 })).records.map(({ id }) => id)
    const keys = async () =>
      (await seaweedfs.keysIn(bucket))
        .filter((key) => key.startsWith(`${prefix}/`))
        .map((key) => key.slice(prefix.length + 1))

    beforeAll(async () => {
      png = await makePng({ width: 64, height: 64 })
      bucket = await seaweedfs.createBucket()
    })
    beforeEach(() => {
      now = NOON
      prefix = `own/${++folders}`
      opened = []
    })
    afterEach(async () => {
      for (const store of opened) await store.close()
    })

    it('keeps a picture as an object that opens as a picture, beside two names', async () => {
      const store = await openStore()
      await store.put(makeImage(png))
      expect(await keys()).toEqual([
        expect.stringMatching(/^by-expiry\/\d{16}\.\d{16}\.\d+\.[0-9a-f]{64}\.picture-1$/),
        expect.stringMatching(/^by-owner\/[0-9a-f]{64}\/\d{16}\..+~\d{16}$/),
        'pictures/picture-1.png',
      ])
      await store.delete('picture-1')
      expect(await keys()).toEqual([])
    })

    it('keeps the longest prompts whole', async () => {
      const image = makeImage(png, { prompt: '\u0001'.repeat(2000), negative_prompt: '🦊'.repeat(1000) })
      const store = await openStore()
      await store.put(image)
      expect(await store.head('picture-1')).toEqual(image.record)
      expect((await store.list(owner, { limit: 1 })).records).toEqual([image.record])
    })

    it('treats an object that is no picture as absent, and lets a picture take its place', async () => {
      const store = await openStore()
      await seaweedfs.write(bucket, `${prefix}/pictures/picture-1.png`, 'not\nours')
      expect(await store.get('picture-1')).toBeUndefined()
      expect(await store.head('picture-1')).toBeUndefined()
      const image = makeImage(png)
      await store.put(image)
      expect(await store.get('picture-1')).toEqual(image)
    })

    it('pages through more pictures than it reads at once, all of one instant', async () => {
      const store = await openStore()
      const ids = Array.from({ length: 45 }, (_, index) => `p${'-_aZ0'[index % 5]}${index}`)
      await Promise.all(ids.map((id) => store.put(makeImage(png, { id }))))
      const seen: string[] = []
      for (let after: string | undefined; ; ) {
        const page = await store.list(owner, { limit: 20, ...(after === undefined ? {} : { after }) })
        seen.push(...page.records.map(({ id }) => id))
        after = page.next
        if (after === undefined) break
      }
      expect(seen).toEqual(ids.sort().reverse())
    })

    it('fills a page from beyond what has expired', async () => {
      const store = await openStore()
      for (const [index, id] of ['oldest', 'gone-1', 'gone-2', 'gone-3', 'newest'].entries()) {
        const expires_at = at(NOON + (id.startsWith('gone') ? 1 : 2) * HOUR_MS)
        await store.put(makeImage(png, { id, created_at: at(NOON + index), expires_at }))
      }
      now = NOON + HOUR_MS
      const page = await store.list(owner, { limit: 2 })
      expect(page.records.map(({ id }) => id)).toEqual(['newest', 'oldest'])
      expect(page).not.toHaveProperty('next')
    })

    describe('with another process on the same bucket', () => {
      it('serves, lists and deletes what the other put', async () => {
        const [one, other] = [await openStore(), await openStore()]
        const image = makeImage(png)
        await one.put(image)
        expect(await other.get('picture-1')).toEqual(image)
        expect(await idsIn(other)).toEqual(['picture-1'])
        expect(await other.delete('picture-1')).toBe(true)
        expect(await one.get('picture-1')).toBeUndefined()
        expect(await idsIn(one)).toEqual([])
      })

      it('lets one first writer win, and leaves no names of the others', async () => {
        const stores = await Promise.all([openStore(), openStore(), openStore(), openStore()])
        for (let round = 0; round < 5; round += 1) {
          const id = `picture-${round}`
          const answers = await Promise.all(
            stores.map((store, seed) =>
              store.put(makeImage(png, { id, seed, created_at: at(NOON + (seed % 2)) })),
            ),
          )
          const kept = await stores[0]!.head(id)
          expect(answers).toEqual([kept, kept, kept, kept])
        }
        expect((await idsIn(stores[0]!)).sort()).toEqual([0, 1, 2, 3, 4].map((round) => `picture-${round}`))
        expect(await keys()).toHaveLength(15)
      })

      it('lets one win the place of an expired picture', async () => {
        const [one, other] = [await openStore(), await openStore()]
        await one.put(makeImage(png))
        now = NOON + HOUR_MS
        const renewed = { created_at: at(now), expires_at: at(now + HOUR_MS) }
        const answers = await Promise.all(
          [one, other].map((store, seed) => store.put(makeImage(png, { seed, ...renewed }))),
        )
        expect(answers[0]).toEqual(answers[1])
        expect(await one.sweep()).toBe(0)
        expect(await other.head('picture-1')).toEqual(answers[0])
        expect(await keys()).toHaveLength(3)
      })

      it('sweeps at once with the other, pages of it, and leaves what is valid', async () => {
        const [one, other] = [await openStore(), await openStore()]
        const expired = Array.from({ length: 40 }, (_, index) => `old-${index}`)
        await Promise.all(expired.map((id) => one.put(makeImage(png, { id }))))
        await one.put(makeImage(png, { id: 'young', expires_at: at(NOON + 2 * HOUR_MS) }))
        now = NOON + HOUR_MS
        expect(await idsIn(other)).toEqual(['young'])
        const counts = await Promise.all([one.sweep(), other.sweep()])
        expect(counts[0] + counts[1]).toBe(40)
        expect(await keys()).toHaveLength(3)
        expect(await other.get('young')).toBeDefined()
      })
    })

    describe('after a crash in the middle of a put', () => {
      it('shows nothing, and sweeps the names when they expire', async () => {
        let allowed = Number.POSITIVE_INFINITY
        const store = await openStore({
          retryForMs: 0,
          fetch: (input, init) => {
            if (init?.method === 'PUT' && String(input).endsWith('.png')) allowed = 0
            return allowed > 0 ? fetch(input, init) : Promise.reject(new TypeError('crashed'))
          },
        })
        await expect(store.put(makeImage(png))).rejects.toMatchObject({ code: 'overloaded' })
        expect(await keys()).toHaveLength(2)
        const next = await openStore()
        expect(await idsIn(next)).toEqual([])
        await next.put(makeImage(png, { created_at: at(NOON + 1) }))
        expect(await idsIn(next), 'listed once, whatever names there are').toEqual(['picture-1'])
        now = NOON + HOUR_MS
        expect(await next.sweep()).toBe(1)
        expect(await keys()).toEqual([])
      })
    })

    describe('at its start', () => {
      const open = (options: Partial<Options>) =>
        createS3Images({ ...settings(), bucket, prefix, ...options })

      it.each<[string, Partial<Options>, RegExp]>([
        ['an access key that is not known', { accessKey: () => 'nobody' }, /IMAGES_S3_ACCESS_KEY/],
        ['a wrong secret key', { secretKey: () => 'a-wrong-secret' }, /IMAGES_S3_SECRET_KEY/],
        ['a bucket that is not there', { bucket: 'missing' }, /no bucket missing .*IMAGES_S3_BUCKET/],
        ['an endpoint without a server', { endpoint: 'http://127.0.0.1:9' }, /IMAGES_S3_ENDPOINT/],
      ])('names the setting for %s', async (_, options, message) => {
        const error = await open(options).then(
          () => undefined,
          (reason) => reason,
        )
        expect(error).toBeInstanceOf(Error)
        expect(error.message).toMatch(message)
        expect(`${error.stack} ${JSON.stringify(error)} ${error.cause?.stack}`).not.toMatch(
          /test-secret-key|a-wrong-secret|Signature=/,
        )
      })

      it.each<[string, number, string, RegExp]>([
        ['another region', 301, 'PermanentRedirect', /IMAGES_S3_REGION/],
        ['another region in the signature', 400, 'AuthorizationHeaderMalformed', /IMAGES_S3_REGION/],
        ['a clock that is wrong', 403, 'RequestTimeTooSkewed', /clock/],
        ['a key without rights', 403, 'AccessDenied', /IMAGES_S3_PREFIX/],
        ['something that is no S3 store', 405, '', /IMAGES_S3_ENDPOINT/],
      ])('names the setting for %s', async (_, status, code, message) => {
        const answer = async () => new Response(`<Error><Code>${code}</Code></Error>`, { status })
        await expect(open({ fetch: answer })).rejects.toThrow(message)
      })

      it('refuses a store that ignores create-if-absent', async () => {
        const unconditional: typeof fetch = (input, init) => {
          const headers = new Headers(init?.headers)
          if (!headers.has('if-none-match')) return fetch(input, init)
          return Promise.resolve(new Response())
        }
        await expect(open({ fetch: unconditional })).rejects.toThrow(/If-None-Match.*IMAGES_S3_ENDPOINT/)
      })

      it('leaves nothing in the bucket', async () => {
        await openStore()
        expect(await keys()).toEqual([])
      })
    })

    describe('with a store in trouble', () => {
      /** What a fake proxy in front of the real store does with each request, before it may pass it on. */
      let trouble: (
        pass: () => void,
        drop: () => void,
        answer: (status: number, code: string) => void,
      ) => void
      let seen: string[]
      let proxy: Server

      beforeEach(async () => {
        trouble = (pass) => pass()
        seen = []
        proxy = createServer((incoming, outgoing) => {
          const { method, url, headers } = incoming
          seen.push(`${method} ${url}`)
          const pass = () => {
            const { hostname, port } = new URL(seaweedfs.endpoint)
            // The host that was signed is the proxy's: it has to reach the store as it is.
            const onward = request({ hostname, port, method, path: url, headers }, (response) => {
              outgoing.writeHead(response.statusCode!, response.headers)
              response.pipe(outgoing)
            })
            onward.on('error', () => outgoing.destroy())
            incoming.pipe(onward)
          }
          const answer = (status: number, code: string) => {
            incoming.resume()
            outgoing.writeHead(status, { location: '/elsewhere' }).end(`<Error><Code>${code}</Code></Error>`)
          }
          trouble(pass, () => outgoing.destroy(), answer)
        })
        await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve))
      })
      afterEach(async () => {
        proxy.closeAllConnections()
        await new Promise((resolve) => proxy.close(resolve))
      })
      const openThroughProxy = (options: Partial<Options> = {}) =>
        openStore({ endpoint: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`, ...options })

      it('gives up in bounded time on one that does not answer', async () => {
        await (await openStore()).put(makeImage(png))
        // Without these a put would go on for longer than the bound below.
        const store = await openThroughProxy({ timeoutMs: 2000, retryForMs: 3000 })
        trouble = () => {}
        const start = performance.now()
        const calls = [
          store.get('picture-1'),
          store.head('picture-1'),
          store.list(owner, { limit: 10 }),
          store.delete('picture-1'),
          store.sweep(),
          store.put(makeImage(png, { id: 'picture-2' })),
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
        const store = await openThroughProxy()
        trouble = (pass) => void setTimeout(pass, 1000)
        const image = makeImage(png)
        expect(await store.put(image)).toEqual(image.record)
        expect(await store.get('picture-1')).toEqual(image)
        expect(await idsIn(store)).toEqual(['picture-1'])
        expect(await store.delete('picture-1')).toBe(true)
      })

      it('says that its key is refused at once, and works again with the right one', async () => {
        let secretKey = seaweedfs.secretKey
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
        await expect(store.put(makeImage(png))).rejects.toMatchObject({
          code: 'internal',
          message: expect.stringContaining('the picture store refused'),
          cause: expect.objectContaining({ status: 403, code: 'SignatureDoesNotMatch' }),
        })
        expect(requests, 'not tried again').toBe(1)
        secretKey = seaweedfs.secretKey
        expect(await store.put(makeImage(png))).toEqual(makeImage(png).record)
      })

      it.each<[string, number, string]>([
        ['500', 500, 'InternalError'],
        ['503 SlowDown', 503, 'SlowDown'],
        ['429 SlowDown', 429, 'SlowDown'],
      ])('tries again after %s', async (_, status, code) => {
        const store = await openThroughProxy()
        let failures = 3
        trouble = (pass, _drop, answer) => (failures-- > 0 ? answer(status, code) : pass())
        expect(await store.put(makeImage(png))).toEqual(makeImage(png).record)
      })

      it('tries again when the connection ends early', async () => {
        const store = await openThroughProxy()
        let failures = 3
        trouble = (pass, drop) => (failures-- > 0 ? drop() : pass())
        expect(await store.put(makeImage(png))).toEqual(makeImage(png).record)
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
        const image = makeImage(png)
        expect(await store.put(image)).toEqual(image.record)
        expect(isLost).toBe(true)
        expect(await keys()).toHaveLength(3)
      })

      it.each<[string, number, string]>([
        ['does not try again after a refusal', 403, 'AccessDenied'],
        ['does not follow a redirect', 307, 'TemporaryRedirect'],
      ])('%s', async (_, status, code) => {
        const store = await openThroughProxy()
        trouble = (_pass, _drop, answer) => answer(status, code)
        seen = []
        await expect(store.get('picture-1')).rejects.toMatchObject({
          code: 'internal',
          message: expect.stringContaining('refused'),
        })
        expect(seen).toHaveLength(1)
      })

      it('ends what is under way when it is closed', async () => {
        // Nothing but the end of the store ends a request here.
        const store = await openThroughProxy({ timeoutMs: 600_000, retryForMs: 600_000 })
        trouble = () => {}
        const [getting, putting] = [store.get('picture-1'), store.put(makeImage(png))].map((call) =>
          call.catch((error) => error.code),
        )
        await store.close()
        expect(await Promise.all([getting, putting])).toEqual(['overloaded', 'overloaded'])
      })

      it(
        'keeps a picture until a killed store is back',
        async () => {
          const store = await openStore({ retryForMs: AWAY_MS })
          await store.put(makeImage(png, { id: 'before' }))
          const large = await makePng({ width: 512, height: 512, noise: true })
          await seaweedfs.kill()
          const putting = store.put(makeImage(large))
          await expect(store.head('before')).rejects.toMatchObject({ code: 'overloaded' })
          seaweedfs.restart()
          expect((await putting).bytes).toBe(large.byteLength)
          expect(Buffer.compare((await store.get('picture-1'))!.png, large)).toBe(0)
          expect((await idsIn(store)).sort()).toEqual(['before', 'picture-1'])
        },
        AWAY_MS + 30_000,
      )

      it(
        'survives being killed in the middle of a put',
        async () => {
          const store = await openThroughProxy({ retryForMs: AWAY_MS })
          const large = await makePng({ width: 512, height: 512, noise: true })
          let isKilled = false
          trouble = (pass) => {
            pass()
            if (isKilled || !/^PUT .*\.png$/.test(seen.at(-1)!)) return
            isKilled = true
            void seaweedfs.kill().then(() => seaweedfs.restart())
          }
          expect((await store.put(makeImage(large))).bytes).toBe(large.byteLength)
          expect(isKilled).toBe(true)
          expect(Buffer.compare((await store.get('picture-1'))!.png, large)).toBe(0)
        },
        AWAY_MS + 30_000,
      )

      it('says so when the store stays away', async () => {
        const store = await openStore({ retryForMs: 500 })
        await seaweedfs.kill()
        try {
          await expect(store.put(makeImage(png))).rejects.toMatchObject({
            code: 'overloaded',
            message:
              'The picture could not be stored. The picture store cannot be reached at the moment; try again shortly.',
          })
        } finally {
          seaweedfs.restart()
        }
      })
    })
  })
}
