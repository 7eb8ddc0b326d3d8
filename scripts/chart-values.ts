/**
 * chart/values.yaml -> its JSON Schema and its reference. In values.yaml a line "# --" above a key says what it
 * means, "# @schema {...}" refines the type that its default has; a plain comment above a key whose children are
 * described is the section's description.
 */
import { readFileSync } from 'node:fs'
import { parse } from 'yaml'

interface Schema {
  description?: string
  type?: string
  properties?: Record<string, Schema>
  additionalProperties?: boolean | Schema
  [keyword: string]: unknown
}

interface Described {
  readonly path: readonly string[]
  readonly description: string
  readonly refinement: Schema | undefined
  readonly section: boolean
}

export const VALUES = new URL('../chart/values.yaml', import.meta.url)

/** Every key with a description, in the file's order. @throws Error for a key that has none. */
function describedKeys(text: string): Described[] {
  const keys: Described[] = []
  let path: string[] = []
  let comments: string[] = []
  /** Lines indented deeper than this belong to a described key's default. */
  let defaultIndent = Number.POSITIVE_INFINITY
  for (const line of text.split('\n')) {
    const indent = line.length - line.trimStart().length
    if (line.trim() === '') {
      comments = []
      continue
    }
    if (indent > defaultIndent) continue
    defaultIndent = Number.POSITIVE_INFINITY
    const comment = line.match(/^\s*# ?(.*)$/)
    if (comment) {
      comments.push(comment[1]!)
      continue
    }
    const key = line.match(/^\s*([A-Za-z0-9]+):/)?.[1]
    if (key === undefined) throw new Error(`chart/values.yaml: this line is no key: ${line}`)
    path = [...path.slice(0, indent / 2), key]
    const meaning = comments.find((text) => text.startsWith('-- '))?.slice(3)
    const schema = comments.find((text) => text.startsWith('@schema '))?.slice('@schema '.length)
    const description = meaning ?? comments.join(' ')
    if (description === '') throw new Error(`chart/values.yaml: ${path.join('.')} has no comment "# -- ..."`)
    const refinement = schema === undefined ? undefined : (JSON.parse(schema) as Schema)
    keys.push({ path, description, refinement, section: meaning === undefined })
    if (meaning !== undefined) defaultIndent = indent
    comments = []
  }
  return keys
}

/** The schema of a default, refined. @throws Error where the default says too little. */
function schemaOf({ path, description, refinement }: Described, fallback: unknown): Schema {
  const where = `chart/values.yaml: ${path.join('.')}`
  if (Array.isArray(fallback)) {
    if (!refinement?.items)
      throw new Error(`${where} is a list: say what is in it by # @schema {"items": ...}`)
    return { description, type: 'array', ...refinement }
  }
  if (typeof fallback === 'object') {
    if (refinement?.additionalProperties === undefined)
      throw new Error(`${where} is open: say what is in it by # @schema {"additionalProperties": ...}`)
    return { description, type: 'object', ...refinement }
  }
  const type = typeof fallback === 'number' ? 'integer' : typeof fallback
  return { description, type, ...refinement }
}

const at = (tree: unknown, path: readonly string[]): unknown =>
  path.reduce((node, key) => (node as Record<string, unknown>)[key], tree)

/** The closed JSON Schema of the chart's values. */
export function valuesSchema(text = readFileSync(VALUES, 'utf8')): string {
  const defaults = parse(text)
  const root: Schema = {
    $schema: 'http://json-schema.org/draft-07/schema#',
    type: 'object',
    additionalProperties: false,
    properties: {
      global: { description: 'Set by charts that depend on this one; not read.', type: 'object' },
    },
  }
  for (const key of describedKeys(text)) {
    const parent = key.path.slice(0, -1).reduce((node, name) => node.properties![name]!, root)
    parent.properties![key.path.at(-1)!] = key.section
      ? { description: key.description, type: 'object', additionalProperties: false, properties: {} }
      : schemaOf(key, at(defaults, key.path))
  }
  return `${JSON.stringify(root, null, 2)}\n`
}

/** The reference in Markdown. */
export function valuesMarkdown(text = readFileSync(VALUES, 'utf8')): string {
  const defaults = parse(text)
  const cell = (value: string) => value.replaceAll('|', '\\|')
  const rows = describedKeys(text)
    .filter(({ section }) => !section)
    .map(({ path, description, refinement }) => {
      const values = refinement?.enum as string[] | undefined
      const allowed = values ? ` One of ${values.map((value) => `\`${value}\``).join(', ')}.` : ''
      const fallback = JSON.stringify(at(defaults, path))
      return `| \`${path.join('.')}\` | ${cell(description + allowed)} | \`${cell(fallback)}\` |`
    })
  return ['| value | meaning | default |', '|---|---|---|', ...rows].join('\n')
}
