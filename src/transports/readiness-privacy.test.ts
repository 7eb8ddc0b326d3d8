import { expect, test, vi } from 'vitest'
import { AppError } from '../errors.ts'
import type { Logger } from '../telemetry/log.ts'
import { createReadiness } from './readiness.ts'

test('the report, which everybody may read, tells no host, port or path; the log does', async () => {
  const said = 'no connection to valkey.prod:6379 for 5 s, nor to 10.0.0.1:80, see /etc/app/x.conf'
  const warn = vi.fn()
  const readiness = createReadiness({
    dependencies: [
      {
        name: 'jobs:valkey',
        toolset: 'image',
        check: () => Promise.reject(new AppError('overloaded', said)),
      },
    ],
    toolsets: ['image'],
    log: { warn, info: vi.fn() } as unknown as Logger,
  })
  readiness.set('serving')
  const { dependencies } = await readiness.report()
  expect(dependencies['jobs:valkey']?.message).toBe(
    'no connection to [address] for 5 s, nor to [address], see [path]',
  )
  expect(warn).toHaveBeenCalledWith(expect.objectContaining({ message: said }))
})
