/** The figures of docs/configuration.md about what a stored picture costs, against what it does cost. */
import { readFileSync } from 'node:fs'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect, test } from 'vitest'
import { makeImage } from '../../test/support/pictures.ts'
import { createCatalogue } from './catalogue.ts'

const page = readFileSync(new URL('../../docs/configuration.md', import.meta.url), 'utf8').replaceAll(
  /\s+/g,
  ' ',
)
const numbers = (sentence: RegExp) => (sentence.exec(page) ?? []).slice(1).map(Number)

test('a record takes what the docs say', () => {
  const [kilobytes, characters] = numbers(/its record \(about (\d+) kB with a prompt of (\d+) characters\)/)
  const { record } = makeImage(Buffer.alloc(68), {
    id: 'i'.repeat(22),
    job_id: 'j'.repeat(36),
    owner: 'https://issuer.example/realms/people|0b1c2d3e-0b1c-2d3e-4f50-0b1c2d3e4f50',
    prompt: 'p'.repeat(characters!),
  })
  const bytes = JSON.stringify(record).length
  expect(bytes).toBeLessThan(kilobytes! * 1000)
  expect(bytes).toBeGreaterThan(kilobytes! * 500)
})

test('the index takes no more memory than the docs say', async () => {
  const [perPicture, perOwner] = numbers(/at most (\d+) bytes of index, and (\d+) more for each caller/)
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc') as () => void
  const used = async () => {
    // Twice, with a turn between: what the first run finds may be freed after it.
    gc()
    await new Promise((resolve) => setImmediate(resolve))
    gc()
    return process.memoryUsage().heapUsed
  }
  const count = 50_000
  const flat = (text: string) => Buffer.from(text).toString()
  const costOf = async (ownerOf: (index: number) => string) => {
    const records = Array.from({ length: count }, (_, index) => ({
      id: flat(crypto.randomUUID()),
      owner: ownerOf(index),
      created_at: new Date(index * 37).toISOString(),
      expires_at: new Date(index * 37 + 3_600_000).toISOString(),
    }))
    const before = await used()
    const catalogue = createCatalogue()
    for (const [index, record] of records.entries()) catalogue.add(record, 1000 + ((index * 7919) % 5000))
    const bytes = ((await used()) - before) / count
    // Both must live until here.
    expect(catalogue.has(records[0]!.id)).toBe(true)
    return bytes
  }
  const ofOne = await costOf(() => 'ann')
  expect(ofOne).toBeLessThan(perPicture!)
  expect(ofOne, 'the docs are not far off').toBeGreaterThan(perPicture! / 2)
  const ofMany = await costOf((index) => flat(`owner-${index}`))
  expect(ofMany).toBeLessThan(perPicture! + perOwner!)
  expect(ofMany, 'the docs are not far off').toBeGreaterThan((perPicture! + perOwner!) / 2)
})
