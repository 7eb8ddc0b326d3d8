/** The table of settings for people: `--help` and docs/configuration.md. */
import type { Setting } from './setting.ts'
import { SETTINGS } from './settings.ts'

/** The table of all variables, for `--help`. */
export function configHelp(): string {
  const lines = (Object.entries(SETTINGS) as [string, Setting<unknown>][]).map(([name, spec]) => {
    const fallback = spec.default === undefined ? '' : ` Default: ${spec.default}.`
    const file = spec.secret
      ? ` Or set ${name}_FILE to a file that holds it; a changed file is read again.`
      : ''
    return `  ${name}\n      ${spec.doc}${file}\n      Allowed: ${spec.allowed}.${fallback}`
  })
  return `diffusers-mcp is configured by environment variables.\n\n${lines.join('\n')}\n`
}

/** The same table in Markdown, for docs/configuration.md. */
export function configMarkdown(): string {
  const cell = (value: string) => value.replaceAll('|', '\\|')
  const rows = (Object.entries(SETTINGS) as [string, Setting<unknown>][]).map(([name, spec]) => {
    const file = spec.secret
      ? ` Secret. Or set \`${name}_FILE\` to a file that holds it; a changed file is read again.`
      : ''
    const fallback = spec.default === undefined ? '' : `\`${spec.default}\``
    return `| \`${name}\` | ${cell(spec.doc + file)} | ${cell(spec.allowed)} | ${fallback} |`
  })
  return ['| variable | meaning | allowed | default |', '|---|---|---|---|', ...rows].join('\n')
}
