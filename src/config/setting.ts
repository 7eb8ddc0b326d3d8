/** A setting is a variable with its meaning and its kind. A kind says which texts are allowed and how they are read. */
import { z } from 'zod'

interface Kind<T> {
  /** The allowed values, as a phrase. */
  readonly allowed: string
  readonly schema: z.ZodType<T, string>
}

export interface Setting<T> extends Kind<T> {
  readonly doc: string
  /** The default as an operator would write it. Without one the variable is optional. */
  readonly default?: string
  readonly secret?: true
}

export const wholeNumber = (min: number, max: number): Kind<number> => ({
  allowed: `a whole number ${min}-${max}`,
  schema: z.string().regex(/^\d+$/).transform(Number).pipe(z.number().min(min).max(max)),
})
export const listOf = <const T extends string>(...values: T[]): Kind<readonly T[]> => ({
  allowed: `some of ${values.join(', ')}, separated by commas`,
  schema: z
    .string()
    .transform((value) => value.split(',').map((part) => part.trim()))
    .pipe(z.array(z.enum(values))) as unknown as z.ZodType<readonly T[], string>,
})
export const choice = <const T extends string>(...values: T[]): Kind<T> => ({
  allowed: values.join(' | '),
  schema: z.enum(values) as unknown as z.ZodType<T, string>,
})
export const text = (allowed: string, pattern = /^[^\0]+$/): Kind<string> => ({
  allowed,
  schema: z.string().regex(pattern),
})
export const httpUrl: Kind<string> = {
  allowed: 'an http:// or https:// URL without query, fragment or credentials',
  schema: z
    .url({ protocol: /^https?$/ })
    .refine((value) => {
      const { username, password } = new URL(value)
      return !/[?#]/.test(value) && username === '' && password === ''
    })
    .transform((value) => value.replace(/\/+$/, '')),
}
export const valkeyUrl: Kind<string> = {
  allowed: 'a redis:// or rediss:// (TLS) URL such as redis://:password@valkey:6379/0',
  schema: z.url({ protocol: /^rediss?$/ }),
}
export const list = (allowed: string, item: RegExp): Kind<readonly string[]> => ({
  allowed,
  schema: z
    .string()
    .transform((value) => value.split(',').map((part) => part.trim().toLowerCase()))
    .pipe(z.array(z.string().regex(item)).min(1)),
})

/** A setting has a default, is secret, or neither. */
export function setting<T>(
  kind: Kind<T>,
  doc: string,
  options: { default: string },
): Setting<T> & { default: string }
export function setting<T>(kind: Kind<T>, doc: string, options?: { secret?: true }): Setting<T>
export function setting<T>(
  kind: Kind<T>,
  doc: string,
  options: { default?: string; secret?: true } = {},
): Setting<T> {
  return { ...kind, doc, ...options }
}
