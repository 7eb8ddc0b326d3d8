import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { scheduleSweep } from './sweep.ts'

const EVERY_SECOND = '* * * * * *'

describe('the scheduled sweep', () => {
  const log = { debug: vi.fn(), warn: vi.fn(), error: vi.fn() }
  let stop: () => void = () => {}

  beforeEach(() => {
    vi.useFakeTimers({ now: new Date('2026-03-01T12:00:00.500Z') })
    vi.clearAllMocks()
  })
  afterEach(() => {
    stop()
    vi.useRealTimers()
    vi.restoreAllMocks()
  })

  it('runs every minute unless told otherwise', async () => {
    const sweep = vi.fn(async () => 0)
    stop = scheduleSweep({ store: { sweep }, log })
    await vi.advanceTimersByTimeAsync(59_000)
    expect(sweep).toHaveBeenCalledTimes(0)
    await vi.advanceTimersByTimeAsync(60_000)
    expect(sweep).toHaveBeenCalledTimes(1)
    await vi.advanceTimersByTimeAsync(120_000)
    expect(sweep).toHaveBeenCalledTimes(3)
  })

  it('says what it removed, and nothing when there was nothing', async () => {
    const sweep = vi.fn().mockResolvedValueOnce(0).mockResolvedValueOnce(7).mockResolvedValue(0)
    stop = scheduleSweep({ store: { sweep }, log, cron: EVERY_SECOND })
    await vi.advanceTimersByTimeAsync(3_000)
    expect(log.debug.mock.calls).toEqual([[{ event: 'expired pictures removed', removed: 7 }]])
  })

  it('never runs twice at once', async () => {
    let finish: (removed: number) => void = () => {}
    const sweep = vi.fn(() => new Promise<number>((resolve) => (finish = resolve)))
    stop = scheduleSweep({ store: { sweep }, log, cron: EVERY_SECOND })
    await vi.advanceTimersByTimeAsync(5_000)
    expect(sweep).toHaveBeenCalledTimes(1)
    finish(0)
    await vi.advanceTimersByTimeAsync(1_000)
    expect(sweep).toHaveBeenCalledTimes(2)
  })

  it('logs a failure and tries again', async () => {
    const error = new Error('disk gone')
    const sweep = vi.fn(() => Promise.reject(error))
    stop = scheduleSweep({ store: { sweep }, log, cron: EVERY_SECOND })
    await vi.advanceTimersByTimeAsync(2_000)
    expect(sweep).toHaveBeenCalledTimes(2)
    expect(log.error).toHaveBeenCalledWith({ event: 'sweep of pictures failed', err: error })
  })

  it('stops when told to', async () => {
    const sweep = vi.fn(async () => 0)
    stop = scheduleSweep({ store: { sweep }, log, cron: EVERY_SECOND })
    await vi.advanceTimersByTimeAsync(2_000)
    stop()
    await vi.advanceTimersByTimeAsync(5_000)
    expect(sweep).toHaveBeenCalledTimes(2)
  })

  it('tells of a skipped sweep in the log, never on the standard output', async () => {
    const printed = (['debug', 'info', 'log', 'warn', 'error'] as const).map((method) =>
      vi.spyOn(console, method).mockReturnValue(),
    )
    const sweep = vi.fn(() => new Promise<number>(() => {}))
    stop = scheduleSweep({ store: { sweep }, log, cron: EVERY_SECOND })
    await vi.advanceTimersByTimeAsync(2_000)
    expect(log.warn).toHaveBeenCalledWith({
      event: 'cron',
      message: expect.stringContaining('still running'),
    })
    for (const method of printed) expect(method).not.toHaveBeenCalled()
  })

  it('does not keep the process alive', () => {
    const timers = vi.spyOn(globalThis, 'setTimeout')
    stop = scheduleSweep({ store: { sweep: async () => 0 }, log })
    expect(timers.mock.results.map(({ value }) => value.hasRef())).toEqual([false])
  })

  it('refuses an expression that is not one', () => {
    expect(() => scheduleSweep({ store: { sweep: async () => 0 }, log, cron: 'now and then' })).toThrow()
  })
})
