import { expect, test } from 'vitest'
import { loggablePath } from './log.ts'

test.each([
  ['/images/a?exp=1&variant=full&sig=SECRET', '/images/a?exp=1&variant=full&sig=[redacted]'],
  ['/mcp?access_token=SECRET', '/mcp?access_token=[redacted]'],
  ['/mcp?%61ccess_token=SECRET&token=SECRET', '/mcp?[redacted]&[redacted]'],
  ['/mcp?SECRET', '/mcp?[redacted]'],
  ['/images?limit=3&after=x', '/images?limit=3&after=x'],
  ['http://host:1/health', '/health'],
  ['http://[::1/', '/'],
  ['http://user:SECRET@host/a?b=SECRET', '/a?[redacted]'],
])('%s is logged as %s', (url, logged) => {
  expect(loggablePath(url)).toBe(logged)
})
