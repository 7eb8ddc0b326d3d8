/** What a picture costs in a filled folder, in calls of the file system. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { HOUR_MS, makeImage, NOON } from '../../../test/support/pictures.ts'
import { createFilesystemImages } from './filesystem.ts'

const disk = vi.hoisted(() => ({ calls: [] as string[] }))

vi.mock('node:fs/promises', async (importOriginal) => {
  const real = await importOriginal<Record<string, unknown>>()
  const counted = (name: string, act: (...args: unknown[]) => unknown) => {
    return (...args: unknown[]) => {
      disk.calls.push(name)
      return act(...args)
    }
  }
  return Object.fromEntries(
    Object.entries(real).map(([name, value]) => [
      name,
      typeof value === 'function' ? counted(name, value as () => unknown) : value,
    ]),
  )
})

const png = Buffer.alloc(68, 1)
let base: string
beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), 'images-cost-'))
})
afterAll(() => rm(base, { recursive: true }))

async function filled(count: number) {
  let now = NOON
  const directory = join(base, `of-${count}`)
  const store = await createFilesystemImages({ directory, maxBytes: 2 ** 30, now: () => now })
  const put = (id: string) => store.put(makeImage(png, { id }))
  await Promise.all(Array.from({ length: count }, (_, index) => put(`p${index}`)))
  await store.sweep()
  const callsOf = async (act: () => Promise<unknown>) => {
    disk.calls = []
    await act()
    return disk.calls.toSorted()
  }
  const calls = {
    put: await callsOf(() => put('new')),
    list: await callsOf(() => store.list(makeImage(png).record.owner, { limit: 20 })),
    listOfNone: await callsOf(() => store.list('nobody', { limit: 20 })),
    sweepOfNone: await callsOf(store.sweep),
  }
  now = NOON + HOUR_MS
  expect(await store.sweep()).toBe(count + 1)
  await store.close()
  return calls
}

test('the same calls in a folder of many as of few', async () => {
  const [few, many] = [await filled(30), await filled(600)]
  expect(many).toEqual(few)
  expect(many.put).not.toContain('opendir')
  expect(many.listOfNone).toEqual([])
  expect(many.sweepOfNone, 'one look at the names').toEqual(['opendir'])
})
