/** What the load tests make of settings, pictures and calls; k6 itself is in test/loadtest. */
import { describe, expect, test } from 'vitest'
import { faultOfPng } from '../../loadtest/lib/picture.ts'
import { readSetting } from '../../loadtest/lib/settings.ts'
import { levelsOf, sustained } from '../../loadtest/runner/capacity.ts'
import { type Call, noLines, takeLine } from '../../loadtest/runner/lines.ts'
import { comparisonTable, reportHtml } from '../../loadtest/runner/report.ts'
import { resultOf } from '../../loadtest/runner/result.ts'
import { createSimulatedRuntime } from '../../src/runtimes/simulated/simulated.ts'

describe('a setting', () => {
  test('that is required and missing says what to do', () => {
    expect(() => readSetting({}, 'BASE_URL')).toThrow('BASE_URL is not set. Write where the server is')
    expect(() => readSetting({ CAPACITY_PER_SECOND: '' }, 'CAPACITY_PER_SECOND')).toThrow(
      /not set[\s\S]*npm run loadtest -- capacity/,
    )
  })
  test.each([
    ['PHASE_SECONDS', '0'],
    ['PHASE_SECONDS', 'soon'],
    ['SAMPLE_EVERY', '1.5'],
    ['BASE_URL', 'images.example.com'],
    ['MIX', 'rest=50,mcp=40'],
    ['MIX', 'rest=50,smtp=50'],
  ] as const)('%s=%s is refused with the value and what is allowed', (name, value) => {
    expect(() => readSetting({ [name]: value }, name)).toThrow(`${name}="${value}": it must be `)
  })
  test('is read: a mix that totals 100, several URLs without their slashes, a default', () => {
    expect(readSetting({ MIX: 'rest=60, mcp=40' }, 'MIX')).toEqual({ rest: 60, mcp: 40 })
    expect(readSetting({ BASE_URL: 'http://a:1/, http://b:2' }, 'BASE_URL')).toEqual([
      'http://a:1',
      'http://b:2',
    ])
    expect(readSetting({}, 'MAX_VUS')).toBe(300)
    expect(readSetting({}, 'WIDTH')).toBeUndefined()
  })
})

describe('a picture', async () => {
  const runtime = createSimulatedRuntime({ msPerStep: 0, imageBytes: 0, queue: 0 })
  const request = { prompt: 'a fox', width: 64, height: 72, num_inference_steps: 1, seed: 1 }
  const { png } = await runtime.generate(request, { signal: new AbortController().signal })
  const bytes = (part: Uint8Array) => new Uint8Array(part).buffer as ArrayBuffer

  test('that is whole and of its size has no fault', () => {
    expect(faultOfPng(bytes(png), { width: 64, height: 72 })).toBeUndefined()
  })
  test.each([
    ['of another size', png, { width: 72, height: 64 }, 'it is 64x72, not 72x64'],
    ['cut off', png.subarray(0, png.length - 1), { width: 64, height: 72 }, 'it is cut off'],
    [
      'of another kind',
      png.map((byte, index) => byte + Number(index === 1)),
      request,
      'it does not begin as',
    ],
    ['empty', png.subarray(0, 0), request, '0 bytes are no PNG'],
  ])('%s has one', (_, part, size, fault) => {
    expect(faultOfPng(bytes(part), size)).toContain(fault)
  })
})

const call = (at: number, more: Partial<Call> = {}): Call => ({
  ...{ call: 'rest', phase: 'only', at, ms: 500, state: 'delivered', queued: 0, inference: 490 },
  ...more,
})
const about = {
  ...{ scenario: 'stress', server: 'One <server>', settings: {} },
  target: { name: 'gpu', concurrency: 4, queue: 8 },
}

test('lines of k6 are told from its other words', () => {
  const lines = noLines()
  const taken = [
    JSON.stringify(call(1)),
    '{"queue":3,"running":2,"at":5}',
    '{"verdict":[]}',
    'Insufficient VUs',
    '{"level":"info"}',
    '{ no JSON',
  ].map((line) => takeLine(lines, line))
  expect(taken).toEqual([true, true, true, false, false, false])
  expect(lines).toMatchObject({ calls: [{ at: 1 }], samples: [{ queue: 3 }], verdict: [] })
})

test('goodput is counted by when pictures came, latency of admitted and refused calls apart', () => {
  const lines = noLines()
  for (let second = 0; second < 20; second += 1) {
    const phase = second < 10 ? 'calm' : 'crowd'
    // What is asked for in the last second of a phase comes in the next one.
    lines.calls.push(call(second * 1000, { phase, ms: 1500, queued: 1000 }))
    if (phase === 'crowd')
      lines.calls.push(call(second * 1000, { phase, ms: 4, state: 'refused', code: 'overloaded' }))
  }
  for (const refusal of lines.calls.filter(({ state }) => state === 'refused')) {
    const { queued: _, inference: __, ...rest } = refusal
    lines.calls[lines.calls.indexOf(refusal)] = rest
  }
  lines.verdict = [{ metric: 'failures', limit: 'rate==0', ok: true, value: 0 }]
  const result = resultOf(lines, about)
  expect(result.phases).toMatchObject([
    {
      name: 'calm',
      calls: 10,
      delivered: 10,
      refused: 0,
      admittedMs: { p50: 1500 },
      queuedMs: { p99: 1000 },
    },
    { name: 'crowd', calls: 20, delivered: 10, refused: 10, refusedMs: { p95: 4 }, goodputPerSecond: 1 },
  ])
  expect(result.series.slice(2, 20).map(({ goodput }) => goodput)).toEqual(Array(18).fill(1))
  expect(result.series[12]).toMatchObject({ arrivals: 2, refusals: 1, p50: 1500, waitP95: 1000 })

  const page = reportHtml(result)
  expect(page).toContain('Passed: all 1 thresholds hold.')
  expect(page).toContain('One &#60;server&#62;')
  expect(page).not.toMatch(/NaN|undefined/)
  expect(comparisonTable(result, result).rows).toContainEqual([
    'calm',
    'admitted p50, ms',
    '1500',
    '1500',
    'x 1.00',
  ])
})

test('a verdict that failed, and why', () => {
  const lines = noLines()
  const { queued: _, inference: __, ...bare } = call(0)
  lines.calls.push(
    { ...bare, state: 'failed', why: 'no answer: EOF' },
    { ...bare, at: 1, state: 'failed', why: 'no answer: EOF' },
  )
  lines.calls.push({ ...bare, at: 2, state: 'refused', code: 'rate_limited per minute' })
  lines.verdict = [{ metric: 'failures', limit: 'rate==0', ok: false, value: 0.5 }]
  const result = resultOf(lines, about)
  expect(result).toMatchObject({ passed: false })
  expect(result.advice).toEqual([
    expect.stringContaining('RATE_LIMIT_PER_MINUTE=0'),
    '2 calls failed: no answer: EOF',
  ])
  expect(reportHtml(result)).toContain('Failed: 1 of 1 thresholds are crossed.')
})

test('service times of a level are those that no earlier level overlapped', () => {
  const calls = [
    ...[0, 1000, 2000].map((at) => call(at, { phase: 'callers-1', ms: 1000 })),
    // The first pictures waited for the last one of the level before.
    ...[3000, 3000].map((at) => call(at, { phase: 'callers-2', ms: 1900, queued: 700 })),
    ...[4900, 4900, 6100, 6100].map((at) => call(at, { phase: 'callers-2', ms: 1200 })),
    call(0, { phase: 'waits' }),
  ]
  expect(levelsOf(calls)).toMatchObject([
    { callers: 1, calls: 2, slotSeconds: 1 },
    { callers: 2, calls: 4, slotSeconds: 1.2 },
  ])
})

test('the sustained rate is that of the full queue: neither its filling nor what comes after the last call counts', () => {
  const lines = noLines()
  for (let at = 0; at < 100_000; at += 250)
    lines.calls.push(
      call(at, { phase: 'saturated', ms: 2000, state: at % 500 === 0 ? 'delivered' : 'refused' }),
    )
  expect(sustained(lines, { boundSeconds: 4 })).toBeCloseTo(2, 1)
})
