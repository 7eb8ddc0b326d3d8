/** What a token may be used for. */
import { AppError } from '../errors.ts'

/**
 * - `image:generate`: make pictures, cancel jobs, delete pictures.
 * - `image:read`: see one's jobs and pictures, the models and the queue.
 * - `data:read`: the data tools.
 */
export const SCOPES = ['image:generate', 'image:read', 'data:read'] as const

export type Scope = (typeof SCOPES)[number]

/**
 * Checks that a caller has the scope.
 * @throws AppError `forbidden` that names the scope, also as `missingScope`, for the challenge of RFC 6750.
 */
export function requireScope({ scopes }: { readonly scopes: ReadonlySet<Scope> }, scope: Scope): void {
  if (scopes.has(scope)) return
  throw new AppError(
    'forbidden',
    `This needs the scope "${scope}", which your token does not have; ask its issuer for one that has.`,
    { missingScope: scope },
  )
}
