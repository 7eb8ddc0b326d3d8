/** Names and texts as Trino's SQL writes them: https://trino.io/docs/current/language/reserved.html#identifiers */
import { z } from 'zod'

/** A catalog, schema or table as a tool's argument: any name at all, because it is quoted. */
export const nameArgument = (what: string) =>
  z
    .string()
    .min(1)
    .max(300)
    .refine((name) => name.isWellFormed() && !name.includes('\0'), 'must be Unicode text without NUL')
    .describe(what)

/**
 * Names joined by dots, each quoted, so that nothing in them is anything but a name. In lower case, as Trino keeps all
 * names: of schemas and tables it makes that itself, over a catalog in capitals it fails with an internal error.
 */
export function quoteNames(...names: readonly string[]): string {
  return names.map((name) => `"${name.toLowerCase().replaceAll('"', '""')}"`).join('.')
}
