/** docs/architecture.md is the map: it shows every folder of src/, names only what exists, and leads to the right file. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { ROOT } from '../support/process.ts'

const PAGE = readFileSync(join(ROOT, 'docs/architecture.md'), 'utf8')
const [, TREE = '', TEXT = ''] = PAGE.split(/```(?:text)?\n/)

/**
 * The paths of the page's tree. Two spaces indent a level, and a line may name several entries, separated by commas. A
 * file in the words after them lies in the folder of the line.
 */
function pathsOfTree(tree: string): string[] {
  const parents: string[] = []
  return tree
    .split('\n')
    .filter((line) => line.trim() !== '')
    .flatMap((line) => {
      const depth = (line.length - line.trimStart().length) / 2
      const [entries = '', words = ''] = line.trim().split(/ {2,}/)
      const names = entries.split(', ')
      parents.splice(depth, Number.POSITIVE_INFINITY, names[0]!.endsWith('/') ? names[0]! : '')
      const above = parents.slice(0, depth).join('')
      return [
        ...names.map((name) => `${above}${name}`),
        ...(words.match(/[\w-]+\.ts/g) ?? []).map((file) => `${parents.join('')}${file}`),
      ].map((path) => path.replace(/\/$/, ''))
    })
}

const inTree = pathsOfTree(TREE)
const inText = [
  ...TEXT.matchAll(/`((?:src|test|chart|docs|scripts|bench|loadtest|runtime|model)\/[^`]*)`/g),
].map(([, path]) => path!.replace(/\/$/, ''))
const folders = readdirSync(join(ROOT, 'src'), { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isDirectory())
  .map((entry) => join(entry.parentPath, entry.name).slice(ROOT.length))

test.each(folders)('%s is in the tree', (folder) => {
  expect(inTree).toContain(folder)
})

test.each([...new Set([...inTree, ...inText])])('%s exists', (path) => {
  expect(existsSync(join(ROOT, path))).toBe(true)
})

describe('where would I change', () => {
  test.each([
    ['the default of a setting', ['src/config/settings.ts']],
    ['who gets the next free slot', ['src/jobs/memory/fair-queue.ts', 'src/jobs/valkey/book/order.lua']],
    ['when a request is refused', ['src/jobs/admission.ts', 'src/jobs/valkey/book/admission.lua']],
    ['how a runtime is asked for a picture', ['src/runtimes/kserve.ts', 'src/runtimes/openai.ts']],
    ['where finished pictures are kept', ['src/images/open.ts', 'src/images/s3/s3.ts']],
    [
      'what a tool does, or which tools there are',
      ['src/tools/tool.ts', 'src/tools/image/generate.ts', 'src/parts.ts'],
    ],
    ['a route of REST', ['src/transports/rest/pictures.ts', 'src/transports/openapi.ts']],
    ['what happens when a caller disconnects', ['src/jobs/lifecycle.ts', 'src/jobs/generate.ts']],
    ['which tokens are accepted', ['src/auth/authenticate.ts', 'src/auth/jwt.ts']],
    ['a metric', ['src/telemetry/metrics.ts']],
  ] as const)('%s?', (_, files) => {
    for (const file of files) {
      expect(existsSync(join(ROOT, file)), file).toBe(true)
      const folder = file.slice(0, file.lastIndexOf('/'))
      expect(
        [...inTree, ...inText].some((path) => path === file || path === folder),
        file,
      ).toBe(true)
    }
  })
})

test('no source imports from test/, which is not shipped', () => {
  const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' }).filter(
    (path) => path.endsWith('.ts') && !path.endsWith('.test.ts'),
  )
  const importing = sources.filter((path) =>
    /from '(\.\.\/)+test\//.test(readFileSync(join(ROOT, 'src', path), 'utf8')),
  )
  expect(importing).toEqual([])
})
