import { describe, expect, test } from 'vitest'
import { textForCallers, textForLog } from './errors.ts'

describe('text of another system', () => {
  test.each([
    ['connect ECONNREFUSED 10.1.2.3:6379', 'connect ECONNREFUSED [address]'],
    ['no connection to valkey.prod.svc:6379 for 5 s', 'no connection to [address] for 5 s'],
    ['getaddrinfo ENOTFOUND db.corp.internal', 'getaddrinfo ENOTFOUND [address]'],
    ['at [fd00::1]:80 and fd00::1', 'at [address] and [address]'],
    ['see https://u:p@h/x?sig=1.', 'see [address]'],
    ['open /var/lib/model/a.bin failed', 'open [path] failed'],
    ['Authorization: Bearer abc.def-123', 'Authorization: [secret]'],
    ['api_key="k-123456", more', 'api_key=[secret]", more'],
    ['key hf_abcdefghijklmnop is wrong', 'key [secret] is wrong'],
    ['a\u009b31mb\u0000c\u202ed', 'a 31mb c d'],
    // Reasons stay as they are.
    ['num_inference_steps: got 200, allowed: 1 to 149', 'num_inference_steps: got 200, allowed: 1 to 149'],
    ['prompt has too many tokens: 90 of 77', 'prompt has too many tokens: 90 of 77'],
    ['width:512 and height:512 are too many', 'width:512 and height:512 are too many'],
    ['guidance_scale must be 0.5-7.5', 'guidance_scale must be 0.5-7.5'],
  ])('%j for callers', (text, told) => {
    expect(textForCallers(text)).toBe(told)
  })

  test('is cut, for callers and for the log', () => {
    expect(textForCallers('x y '.repeat(1000))).toHaveLength(300)
    expect(textForLog('x y '.repeat(10_000))).toHaveLength(2000)
  })

  test('keeps places in the log, but no secrets', () => {
    expect(textForLog('http://u:hunter2@db:5432/x?token=abc')).toBe(
      'http://[secret]@db:5432/x?token=[secret]',
    )
  })

  test.each(['a:', 'a.', 'a-', '/a', ':', 'a@', 'token=', 'a1/', '[', 'a:a@', 'bearer ', '~/'])(
    'made of %j is cleaned as well',
    (piece) => {
      expect(textForCallers(piece.repeat(100_000)).length).toBeLessThanOrEqual(300)
    },
  )
})
