import { expect, test, vi } from 'vitest'
import { checkIds } from './check-ids.ts'
import type { Jobs } from './job.ts'

const ALICE = { id: 'alice' }

test.each(['', 'a'.repeat(65), '../x', 'a b', 'a\n', 'a\u0000', 'a:b', 'a*', '狐', '{x}'])(
  'the backend never sees the id %j',
  async (id) => {
    const seen = vi.fn()
    const jobs = checkIds({ get: seen, watch: seen, cancel: seen } as unknown as Jobs)
    const missing = expect.objectContaining({ code: 'not_found' })
    await expect(jobs.get(id, ALICE)).rejects.toEqual(missing)
    await expect(jobs.cancel(id, ALICE)).rejects.toEqual(missing)
    await expect(jobs.watch(id, ALICE)[Symbol.asyncIterator]().next()).rejects.toEqual(missing)
    expect(seen).not.toHaveBeenCalled()
  },
)

test('and it sees one of the right form', async () => {
  const jobs = checkIds({ get: async (id: string) => ({ id }) } as unknown as Jobs)
  expect(await jobs.get('0b9e-A_z', ALICE)).toEqual({ id: '0b9e-A_z' })
})
