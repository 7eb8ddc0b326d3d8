/** Names in Trino's SQL: https://trino.io/docs/current/language/reserved.html#identifiers */
import { z } from 'zod'

/** A catalog, schema or table as a tool's argument. Any name is allowed, because it is quoted. */
export const nameArgument = (what: string) =>
  z
    .string()
    .min(1)
    .max(300)
    .refine((name) => name.isWellFormed() && !name.includes('\0'), 'must be Unicode text without NUL')
    .describe(what)

/**
 * Names joined by dots, each quoted, so that they cannot contain SQL. They are in lower case, as Trino keeps names: it
 * converts schemas and tables itself, but fails with an internal error for a catalog in capitals.
 */
export function quoteNames(...names: readonly string[]): string {
  return names.map((name) => `"${name.toLowerCase().replaceAll('"', '""')}"`).join('.')
}
