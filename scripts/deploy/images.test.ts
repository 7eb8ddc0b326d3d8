import { existsSync } from 'node:fs'
import { expect, test } from 'vitest'
import { imagesFor } from './images.ts'

test('images are built under the names that the chart’s empty tags mean', () => {
  const names = Object.values(imagesFor({ registry: 'registry.example.com/team/', version: '1.2.3' })).map(
    ({ name }) => name,
  )
  expect(names).toEqual([
    'registry.example.com/team/diffusers-mcp:1.2.3',
    'registry.example.com/team/diffusers-mcp:1.2.3-deno',
    'registry.example.com/team/diffusers-runtime:1.2.3-cpu',
    'registry.example.com/team/diffusers-runtime:1.2.3',
  ])
  expect(imagesFor({ registry: '', version: '1.2.3' }).server!.name).toBe('diffusers-mcp:1.2.3')
})

test('the runtime’s images are built of its own Dockerfile, which is there', () => {
  const images = imagesFor({ registry: '', version: '1.2.3' })
  for (const { args } of [images.runtime!, images['runtime-cpu']!]) {
    const file = args[args.indexOf('--file') + 1]!
    expect(file).toMatch(/runtime\/Dockerfile$/)
    expect(existsSync(file)).toBe(true)
  }
})
