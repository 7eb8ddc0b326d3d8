/** What is wrong with the environment. Problems are collected, so that one start reports all of them. */

/** One thing that is wrong with the environment. */
export interface ConfigProblem {
  readonly variable: string
  /** The quoted value. Absent if the variable is a secret or is missing. */
  readonly got?: string
  readonly allowed: string
}

/** The environment has problems; the message lists all of them. */
export class ConfigError extends Error {
  readonly problems: readonly ConfigProblem[]

  constructor(problems: readonly ConfigProblem[]) {
    const lines = problems.map(
      ({ variable, got, allowed }) => `  ${variable}: ${got === undefined ? '' : `got ${got}; `}${allowed}`,
    )
    super(
      `The configuration has ${problems.length === 1 ? 'a problem' : `${problems.length} problems`}:\n${lines.join('\n')}`,
    )
    this.name = 'ConfigError'
    this.problems = problems
  }
}

/** The place of a value in JSON, such as `[0].url`. */
export const pathOf = (path: readonly PropertyKey[]) =>
  path.map((key) => (typeof key === 'number' ? `[${key}]` : `.${String(key)}`)).join('')
export const reason = (error: unknown) => (error instanceof Error ? error.message : String(error))
