import { describe, expect, test } from 'vitest'
import { Outbox } from './outbox.ts'

const KIB = 1024
const LONG = 'x'.repeat(600 * KIB)

/** An outbox whose network takes a frame when it is told to. */
function create({ maxBytes = 2 ** 24, caller = 'ann', unsentOf = new Map<string, number>() } = {}) {
  const frames: { text: string; fin: boolean }[] = []
  const taken: (() => void)[] = []
  const sender = {
    send(data: string | Uint8Array, { fin }: { fin: boolean }, sent: () => void) {
      frames.push({ text: Buffer.from(data as string).toString(), fin })
      taken.push(sent)
    },
  }
  const outbox = new Outbox({ sender, maxBytes, caller, unsentOf })
  return {
    outbox,
    frames,
    unsentOf,
    /** The network takes the oldest frames. */
    take(count = 1) {
      for (const sent of taken.splice(0, count)) sent()
    },
  }
}

describe('an outbox', () => {
  test('sends a short message whole, and says when it is gone', () => {
    const { outbox, frames, take } = create()
    let sent = 0
    expect(outbox.send('one', () => (sent += 1))).toBe(true)
    expect(frames).toEqual([{ text: 'one', fin: true }])
    expect([sent, outbox.isEmpty]).toEqual([0, false])
    take()
    expect([sent, outbox.isEmpty]).toEqual([1, true])
  })

  test('sends a long message in fragments, one after the other, and nothing between them', () => {
    const { outbox, frames, take } = create()
    const sent: string[] = []
    outbox.send(LONG, () => sent.push('long'))
    outbox.send('short', () => sent.push('short'))
    outbox.send(`${LONG}2`, () => sent.push('long 2'))
    outbox.send('last')
    expect(frames).toHaveLength(1)
    for (let n = 0; n < 10; n += 1) take()
    expect(frames.map(({ fin }) => fin)).toEqual([false, false, true, true, false, false, true, true])
    const messages = frames.map(({ text, fin }) => text + (fin ? '\n' : '')).join('')
    expect(messages).toBe(`${LONG}\nshort\n${LONG}2\nlast\n`)
    expect(sent).toEqual(['long', 'short', 'long 2'])
    expect(outbox.isEmpty).toBe(true)
  })

  test('shows for how long the peer has taken nothing of what waits', () => {
    const { outbox, take } = create()
    const at = () => performance.now()
    expect(outbox.stuckMs(at() + 1e6)).toBe(0)
    outbox.send(LONG)
    expect(outbox.stuckMs(at() + 1e6)).toBeGreaterThanOrEqual(1e6)
    // A message behind it changes nothing, a fragment that is taken does.
    const later = at() + 1e6
    outbox.send('short')
    expect(outbox.stuckMs(later)).toBeGreaterThan(9e5)
    take()
    expect(outbox.stuckMs(at())).toBeLessThan(9e5)
    take(9)
    take(9)
    take(9)
    expect(outbox.stuckMs(at() + 1e6)).toBe(0)
  })

  test('takes one message of any size, and several within the bound of the connection', () => {
    const { outbox, take } = create({ maxBytes: 100 })
    expect(outbox.send('x'.repeat(200))).toBe(true)
    expect(outbox.isHalfFull).toBe(true)
    expect(outbox.send('y')).toBe(false)
    take()
    expect([outbox.send('x'.repeat(60)), outbox.send('x'.repeat(41)), outbox.send('x'.repeat(40))]).toEqual([
      true,
      false,
      true,
    ])
  })

  test('bounds what waits for all connections of a caller, and not what waits for others', () => {
    const unsentOf = new Map<string, number>()
    const boxes = Array.from({ length: 5 }, () => create({ unsentOf }))
    const large = 'x'.repeat(2 ** 24)
    expect(boxes.map(({ outbox }) => outbox.send(large))).toEqual([true, true, true, true, false])
    expect(boxes[4]?.outbox.isHalfFull).toBe(true)
    expect(create({ unsentOf, caller: 'bob' }).outbox.send(large)).toBe(true)
    boxes[0]?.outbox.close()
    expect(boxes[4]?.outbox.send(large)).toBe(true)
  })

  test('leaves nothing behind over a thousand connections that close in every phase', () => {
    const unsentOf = new Map<string, number>()
    let asked = 0
    let sent = 0
    for (let n = 0; n < 1000; n += 1) {
      const { outbox, take } = create({ unsentOf, caller: `caller ${n % 3}` })
      for (let message = 0; message < n % 4; message += 1)
        if (outbox.send(message % 2 ? LONG : 'short', () => (sent += 1))) asked += 1
      take(n % 3)
      take(n % 2)
      outbox.close()
      // Engines may still call back.
      take(9)
    }
    expect(sent).toBe(asked)
    expect([...unsentOf]).toEqual([])
  })
})
