import { describe, expect, test } from 'vitest'
import { makeImage } from '../../test/support/pictures.ts'
import { ANONYMOUS } from '../auth/caller.ts'
import type { ImageRecord } from './image.ts'
import { createOutgoing, inlineLoad, sharedLoad } from './outgoing.ts'

const MIB = 2 ** 20
const ANN = { caller: { id: 'ann' } }
const BOB = { caller: { id: 'bob' } }
const own = (bytes: number) => ({ own: bytes })

describe('what is on its way out', () => {
  const create = () => createOutgoing({ get: async () => undefined })

  test('is bounded for each caller', () => {
    const outgoing = create()
    const release = outgoing.take(ANN, own(60 * MIB))
    expect(() => outgoing.take(ANN, own(5 * MIB))).toThrow(
      expect.objectContaining({ code: 'rate_limited', retryAfterSeconds: 2 }),
    )
    outgoing.take(BOB, own(5 * MIB))
    release()
    outgoing.take(ANN, own(5 * MIB))
    expect(outgoing.bytes).toBe(10 * MIB)
  })

  test('is bounded for each link, and for all links together', () => {
    const outgoing = create()
    for (const link of ['a', 'b', 'c', 'd']) outgoing.take({ link }, own(32 * MIB))
    expect(() => outgoing.take({ link: 'a' }, own(1))).toThrow(
      expect.objectContaining({ code: 'rate_limited' }),
    )
    expect(() => outgoing.take({ link: 'e' }, own(1))).toThrow(
      expect.objectContaining({ code: 'overloaded' }),
    )
    outgoing.take(ANN, own(1))
  })

  test('is bounded in all, which is the only bound for callers who cannot be told apart', () => {
    const outgoing = create()
    outgoing.take({ caller: ANONYMOUS }, own(256 * MIB))
    for (const receiver of [{ caller: ANONYMOUS }, ANN, { link: 'a' }])
      expect(() => outgoing.take(receiver, own(1))).toThrow(
        expect.objectContaining({ code: 'overloaded', retryAfterSeconds: 2 }),
      )
  })

  test('may be one answer of any size', () => {
    const outgoing = create()
    outgoing.take(ANN, own(300 * MIB))()
    expect(outgoing.bytes).toBe(0)
  })

  test('counts bytes that answers share once, until the last of them is sent', () => {
    const outgoing = create()
    const load = sharedLoad('a', 8 * MIB)
    const releases = [ANN, ANN, BOB].map((receiver) => outgoing.take(receiver, load))
    expect(outgoing.bytes).toBe(8 * MIB + 3 * load.own)
    for (const release of releases.slice(0, 2)) release()
    expect(outgoing.bytes).toBe(8 * MIB + load.own)
    releases[2]?.()
    expect(outgoing.bytes).toBe(0)
  })

  test('is released once, however often that is said', () => {
    const outgoing = create()
    outgoing.take(ANN, own(5))
    const release = outgoing.take(ANN, own(7))
    release()
    release()
    expect(outgoing.bytes).toBe(5)
  })

  test('a picture inside JSON counts with its copies', () => {
    expect(inlineLoad(100)).toEqual({ own: 400 })
  })
})

describe('a picture to send', () => {
  const png = Buffer.alloc(MIB)
  const { record } = makeImage(png, { id: 'a' })
  const streams = () => new ReadableStream<Uint8Array>({ pull: (controller) => controller.enqueue(png) })

  /** Reads are counted; `sent` ends all answers. */
  function create(stream?: (record: ImageRecord) => Promise<ReadableStream<Uint8Array> | undefined>) {
    const done: (() => void)[] = []
    let reads = 0
    const outgoing = createOutgoing({
      get: async () => {
        reads += 1
        return { record, png }
      },
      stream,
    })
    return {
      outgoing,
      reads: () => reads,
      open: (receiver: Parameters<typeof outgoing.take>[0] = ANN) =>
        outgoing.open(record, { receiver, onSent: (each) => done.push(each) }),
      sent: () => {
        for (const each of done.splice(0)) each()
      },
    }
  }

  test('is a stream where the store can, which holds far less', async () => {
    const { open, outgoing, reads, sent } = create(async () => streams())
    expect(await open()).toBeInstanceOf(ReadableStream)
    expect(reads()).toBe(0)
    expect(outgoing.bytes).toBeLessThan(png.length / 2)
    sent()
    expect(outgoing.bytes).toBe(0)
  })

  test('is read once for all answers that hold it, and again after the last one', async () => {
    const { open, outgoing, reads, sent } = create()
    const [one, two] = await Promise.all([open(), open({ link: 'a' })])
    expect(one).toBe(two)
    expect(reads()).toBe(1)
    sent()
    expect(outgoing.bytes).toBe(0)
    await open()
    expect(reads()).toBe(2)
  })

  test('is not read where there is no room for it', async () => {
    const { open, outgoing, reads } = create()
    outgoing.take(ANN, own(64 * MIB))
    await expect(open()).rejects.toMatchObject({ code: 'rate_limited' })
    expect(reads()).toBe(0)
  })

  test('counts no more when it is gone, or the store fails', async () => {
    for (const stream of [async () => undefined, () => Promise.reject(new Error('away'))]) {
      const { open, outgoing, sent } = create(stream)
      await open().catch(() => {})
      sent()
      expect(outgoing.bytes).toBe(0)
    }
  })

  test('leaves nothing behind over a thousand answers of many receivers', async () => {
    const { outgoing } = create()
    const receivers = [ANN, BOB, { caller: ANONYMOUS }, { link: 'a' }, { link: 'b' }]
    const held: (() => void)[] = []
    for (let n = 0; n < 1000; n += 1) {
      const receiver = receivers[n % receivers.length]!
      const onSent = (done: () => void) => {
        if (n % 3 === 0) done()
        else held.push(done)
      }
      const shape = { ...record, id: `p${n % 11}`, bytes: 1 + ((n * 7919) % MIB) }
      await outgoing.open(shape, { receiver, onSent }).catch(() => {})
      if (n % 5 === 0) for (const done of held.splice(n % 7)) done()
    }
    expect(outgoing.bytes).toBeGreaterThan(0)
    for (const done of held) done()
    expect(outgoing.bytes).toBe(0)
    // Nothing is left of any account.
    for (const receiver of receivers) outgoing.take(receiver, own(256 * MIB))()
  })
})
