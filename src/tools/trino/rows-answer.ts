/** The answer of a query: structured rows, and a short table for reading that says what was left out. */
import { z } from 'zod'
import type { QueryLimits, QueryResult } from '../../datasources/trino-result.ts'
import { plainText } from '../../errors.ts'
import type { ContentBlock } from '../tool.ts'

/** Limits of the table. The structured answer has all rows and whole values. */
const TABLE_ROWS = 50
const CELL_CHARACTERS = 60

/** Fields of every answer that a limit may have cut. */
export const cutAnswer = {
  truncated: z.boolean().describe('True where there is more than this answer holds.'),
  limit: z
    .object({
      kind: z
        .enum(['rows', 'bytes', 'pages'])
        .describe('pages: the rest lies at an address that this server may not follow.'),
      value: z.int().optional().describe('How many rows, or bytes of JSON, an answer may have.'),
    })
    .optional()
    .describe('What cut the answer.'),
}

/** `truncated` and `limit` of a result. */
export function describeCut({ cut }: QueryResult, limits: QueryLimits) {
  if (cut === undefined) return { truncated: false }
  const value = cut === 'rows' ? limits.maxRows : cut === 'bytes' ? limits.maxBytes : undefined
  return { truncated: true, limit: { kind: cut, value } }
}

/** A result as text: how many rows, why not more, and the first ones as a Markdown table. */
export function tableText(result: QueryResult, limits: QueryLimits): ContentBlock {
  const { columns, rows, updateType, updateCount } = result
  if (updateType !== undefined) {
    const changed = updateCount === undefined ? '' : `, ${updateCount} rows`
    return { type: 'text', text: `Done: ${plainText(updateType, 80)}${changed}.` }
  }
  const count = `${rows.length} ${rows.length === 1 ? 'row' : 'rows'}`
  const shown = rows.slice(0, TABLE_ROWS)
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  const text = [
    `${count}${cutInWords(result, limits)}.`,
    ...(shown.length < rows.length ? [`The first ${shown.length} of them:`] : []),
    '',
    line(columns.map(({ name, type }) => `${cell(name)} (${cell(type)})`)),
    line(columns.map(() => '---')),
    ...shown.map((row) => line(row.map(cell))),
  ].join('\n')
  return { type: 'text', text }
}

function cutInWords({ cut }: QueryResult, { maxRows, maxBytes }: QueryLimits): string {
  if (cut === 'rows')
    return `, cut at the limit of ${maxRows} rows: there are more. Aggregate, filter or add LIMIT`
  if (cut === 'bytes')
    return `, cut at the limit of ${maxBytes} bytes: there are more. Select fewer or shorter columns`
  if (cut === 'pages')
    return ', all of the first page: there are more, at an address that this server may not follow. Aggregate or filter'
  return ''
}

function cell(value: unknown): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? '')
  return plainText(text, CELL_CHARACTERS).replaceAll('|', '\\|')
}
