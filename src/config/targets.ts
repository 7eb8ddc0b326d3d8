/** The targets. */
import { readFileSync } from 'node:fs'
import { z } from 'zod'
import { type TargetDefinition, targetDefinition } from '../runtimes/targets.ts'
import { type ConfigProblem, pathOf, reason } from './problem.ts'
import type { Raw } from './settings.ts'

/** The targets of RUNTIMES, or else the one of the DIFFUSERS_ variables, or else the embedded model. */
export function readTargets(value: Raw, problems: ConfigProblem[]): readonly TargetDefinition[] {
  const variable = value.RUNTIMES_FILE ? 'RUNTIMES_FILE' : 'RUNTIMES'
  if (value.RUNTIMES && value.RUNTIMES_FILE)
    problems.push({ variable: 'RUNTIMES', allowed: 'set either RUNTIMES or RUNTIMES_FILE, not both' })
  if ((value.RUNTIMES || value.RUNTIMES_FILE) && value.DIFFUSERS_RUNTIME_URL)
    problems.push({
      variable: 'DIFFUSERS_RUNTIME_URL',
      allowed: `contradicts ${variable}: remove one of the two`,
    })

  if (value.RUNTIMES_FILE || value.RUNTIMES) {
    let json: unknown
    try {
      json = JSON.parse(
        value.RUNTIMES_FILE ? readFileSync(value.RUNTIMES_FILE, 'utf8') : (value.RUNTIMES as string),
      )
    } catch (error) {
      problems.push({ variable, allowed: `must be a JSON array of targets: ${reason(error)}` })
      return []
    }
    const names = (targets: readonly TargetDefinition[]) => new Set(targets.map(({ name }) => name)).size
    const parsed = z
      .array(targetDefinition)
      .min(1, 'must name at least one target')
      .refine((targets) => names(targets) === targets.length, 'must give every target a name of its own')
      .safeParse(json)
    if (parsed.success) return parsed.data
    for (const issue of parsed.error.issues)
      problems.push({ variable: `${variable}${pathOf(issue.path)}`, allowed: issue.message })
    return []
  }
  if (value.DIFFUSERS_RUNTIME_URL)
    return [
      {
        name: value.DIFFUSERS_RUNTIME_SERVICE ?? 'diffusers',
        kind: 'kserve',
        url: value.DIFFUSERS_RUNTIME_URL,
        model: value.DIFFUSERS_MODEL_ID,
        concurrency: value.DIFFUSERS_RUNTIME_CONCURRENCY,
        queue: value.DIFFUSERS_RUNTIME_QUEUE,
        defaults: {},
      },
    ]
  return [targetDefinition.parse({ name: 'icons', kind: 'embedded' })]
}
