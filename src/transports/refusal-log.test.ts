import { expect, test, vi } from 'vitest'
import { eventually } from '../../test/support/eventually.ts'
import type { Logger } from '../telemetry/log.ts'
import { createRefusalLog } from './refusal-log.ts'

test('a minute has 60 lines, then one that says how many more there were', async () => {
  const info = vi.fn()
  const level = createRefusalLog({ info } as unknown as Logger, { windowMs: 500 })
  const levels = (count: number) => Array.from({ length: count }, () => level())
  expect(levels(60)).toEqual(Array.from({ length: 60 }, () => 'info'))
  expect(new Set(levels(40))).toEqual(new Set(['debug']))
  expect(info).not.toHaveBeenCalled()
  await eventually(() =>
    expect(info).toHaveBeenCalledExactlyOnceWith(
      expect.objectContaining({ event: 'requests refused', more: 40 }),
    ),
  )
  expect(level()).toBe('info')
})
