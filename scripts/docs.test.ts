import { expect, test } from 'vitest'
import { renderDocs } from './docs.ts'

test.each(renderDocs().map((page) => [page.name, page] as const))(
  '%s is what `npm run docs` writes',
  (_, { current, wanted }) => {
    expect(current).toBe(wanted)
  },
)
