/** How the Deno image runs, by its Dockerfile: the same options, for this working copy and a folder instead of /data. */
import { readFileSync } from 'node:fs'
import { ROOT } from './process.ts'

/** The command, with the options and without the entry. */
export function denoAsImage(folder: string): { command: string; options: string[] } {
  const entry = readFileSync(`${ROOT}Dockerfile`, 'utf8').match(/^ENTRYPOINT (\["deno".*)$/m)?.[1]
  const args = (JSON.parse(entry as string) as string[]).slice(1, -1)
  const app = ROOT.replace(/\/$/, '')
  const options = args.map((arg) => arg.replace('/app', app).replace('/data', folder))
  return { command: `${ROOT}node_modules/.bin/deno`, options }
}
