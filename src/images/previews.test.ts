import { setImmediate } from 'node:timers/promises'
import sharp from 'sharp'
import { describe, expect, test } from 'vitest'
import { makeImage, makePng } from '../../test/support/pictures.ts'
import type { ImageRecord } from './image.ts'
import type { Preview } from './preview.ts'
import { createPreviews } from './previews.ts'

const SIZE = { maxBytes: 1000 }
const record = (id: string): ImageRecord => makeImage(Buffer.alloc(8), { id }).record

/** Previews whose making is held until it is let go; `read` and `begun` have the ids in their order. */
function held(options: { keptBytes?: number; atOnce?: number } = {}) {
  const read: string[] = []
  const signals: AbortSignal[] = []
  const hold: PromiseWithResolvers<Preview>[] = []
  const gone = new Set<string>()
  const previews = createPreviews({
    atOnce: 1,
    ...options,
    images: {
      async get(id) {
        read.push(id)
        return gone.has(id) ? undefined : { record: record(id), png: Buffer.from(id) }
      },
    },
    make: (_, __, signal) => {
      signals.push(signal as AbortSignal)
      const made = Promise.withResolvers<Preview>()
      hold.push(made)
      return made.promise
    },
  })
  return {
    previews,
    read,
    signals,
    gone,
    ask: (id: string, { turn = 'ann', maxWaiting = 3, signal }: Partial<Asked> = {}) =>
      previews.of(record(id), SIZE, { turn, maxWaiting, signal }),
    /** Ends the making that began first. */
    async finish(bytes = 100): Promise<void> {
      await settled()
      hold.shift()?.resolve({ bytes: new Uint8Array(bytes), media_type: 'image/webp', width: 1, height: 1 })
      await settled()
    },
    async fail(error: Error): Promise<void> {
      await settled()
      hold.shift()?.reject(error)
      await settled()
    },
  }
}
type Asked = { turn: string; maxWaiting: number; signal: AbortSignal }

/** Whatever was promised has happened. */
async function settled(): Promise<void> {
  for (let turn = 0; turn < 3; turn += 1) await setImmediate()
}

describe('previews', () => {
  test('a picture is read when its turn has come, and not before', async () => {
    const { ask, read, finish } = held()
    const asked = [ask('a'), ask('b')]
    await settled()
    expect(read).toEqual(['a'])
    await finish()
    expect(read).toEqual(['a', 'b'])
    await finish()
    await Promise.all(asked)
  })

  test('another caller waits for the preview that is being made, not for all of the caller before it', async () => {
    const { ask, read, finish } = held()
    const asked = [ask('a1'), ask('a2'), ask('a3'), ask('a4'), ask('b1', { turn: 'bob' })]
    for (const _ of asked) await finish()
    await Promise.all(asked)
    expect(read).toEqual(['a1', 'b1', 'a2', 'a3', 'a4'])
  })

  test('is made once for all who ask at the same time, and then kept', async () => {
    const { ask, read, finish } = held()
    const asked = [ask('a'), ask('a'), ask('a', { turn: 'bob' })]
    await finish()
    const [one, two, three] = await Promise.all(asked)
    expect([two, three, await ask('a')]).toEqual([one, one, one])
    expect(read).toEqual(['a'])
  })

  test('a failure is not kept', async () => {
    const { ask, read, fail, finish } = held()
    const asked = [ask('a'), ask('a')].map((each) => expect(each).rejects.toThrow('broken'))
    await fail(new Error('broken'))
    await Promise.all(asked)
    const again = ask('a')
    await finish()
    await again
    expect(read).toEqual(['a', 'a'])
  })

  test('that were used last are kept, within their bound in bytes', async () => {
    const { ask, read, finish } = held({ keptBytes: 250 })
    const make = async (id: string) => {
      const asked = ask(id)
      await finish(100)
      await asked
    }
    for (const id of ['a', 'b']) await make(id)
    await ask('a')
    await make('c')
    await ask('a')
    expect(read).toEqual(['a', 'b', 'c'])
    await make('b')
    expect(read).toEqual(['a', 'b', 'c', 'b'])
  })

  test('of a picture that was deleted meanwhile are not found', async () => {
    const { ask, gone } = held()
    gone.add('a')
    await expect(ask('a')).rejects.toMatchObject({ code: 'not_found' })
  })

  test('beyond a few that wait for one caller are refused, and not for another', async () => {
    const { ask, finish } = held()
    const asked = ['a', 'b', 'c', 'd'].map((id) => ask(id))
    await settled()
    await expect(ask('e')).rejects.toMatchObject({ code: 'rate_limited', retryAfterSeconds: 1 })
    // Who asks for one of them does not wait for more.
    asked.push(ask('b'), ask('e', { turn: 'bob' }), ask('f', { maxWaiting: 9 }))
    for (const _ of asked) await finish()
    expect(await Promise.all(asked)).toHaveLength(7)
  })

  test('nobody waits for are not made', async () => {
    const { ask, read, finish, previews } = held()
    const first = ask('a')
    const leave = new AbortController()
    const abandoned = ask('b', { signal: leave.signal })
    const last = ask('c')
    await settled()
    leave.abort(new Error('left'))
    await expect(abandoned).rejects.toThrow('left')
    expect(previews.waiting).toBe(1)
    await finish()
    await finish()
    await Promise.all([first, last])
    expect(read).toEqual(['a', 'c'])
  })

  test('one of two who ask may leave', async () => {
    const { ask, signals, finish } = held()
    const leave = new AbortController()
    const leaving = ask('a', { signal: leave.signal })
    const staying = ask('a')
    await settled()
    leave.abort(new Error('left'))
    await expect(leaving).rejects.toThrow('left')
    expect(signals[0]?.aborted).toBe(false)
    await finish()
    await staying
  })

  test('the making stops when the last one leaves, and who comes then starts anew', async () => {
    const { ask, signals, read, fail, finish } = held()
    const leave = new AbortController()
    const leaving = ask('a', { signal: leave.signal })
    await settled()
    leave.abort(new Error('left'))
    await expect(leaving).rejects.toThrow('left')
    const coming = ask('a')
    expect(signals[0]?.aborted).toBe(true)
    await fail(new Error('aborted'))
    await finish()
    await coming
    expect(read).toEqual(['a', 'a'])
  })

  test('leave nothing behind, in whatever phase a thousand callers leave', async () => {
    const { ask, finish, previews, read } = held({ atOnce: 2 })
    const ended = Array.from({ length: 1000 }, async (_, n) => {
      const leave = new AbortController()
      const asked = ask(`p${n % 50}`, { turn: `t${n % 5}`, signal: leave.signal, maxWaiting: 5 }).catch(
        () => 'ended',
      )
      for (let turn = 0; turn < n % 5; turn += 1) await setImmediate()
      leave.abort(new Error('left'))
      return await asked
    })
    for (let turn = 0; turn < 100; turn += 1) await finish()
    await Promise.all(ended)
    expect(previews.waiting).toBe(0)
    // Both slots are free: two that never end would hold this one up.
    const before = read.length
    const last = [ask('x'), ask('y')]
    await settled()
    expect(read.slice(before)).toEqual(['x', 'y'])
    await finish()
    await finish()
    await Promise.all(last)
  })

  test('leave at least half of the cores to others', async () => {
    const noise = await makePng({ width: 512, height: 384, noise: true })
    const previews = createPreviews({ images: { get: async (id) => ({ record: record(id), png: noise }) } })
    let most = 0
    const watch = setInterval(() => {
      const { queue, process } = sharp.counters()
      most = Math.max(most, queue + process)
    }, 1)
    const asker = { turn: 'ann', maxWaiting: 9 }
    await Promise.all(
      Array.from({ length: 6 }, (_, n) => previews.of(record(`p${n}`), { maxBytes: 700_000 }, asker)),
    )
    clearInterval(watch)
    expect(most).toBeGreaterThan(0)
    expect(most).toBeLessThanOrEqual(2)
    expect(sharp.concurrency()).toBe(1)
  })
})
