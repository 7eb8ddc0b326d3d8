/** The cache of builds and downloads, shared by all clones. */
import { existsSync, mkdirSync, renameSync, rmSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'

/** `$XDG_CACHE_HOME/diffusers-mcp`, else `~/.cache/diffusers-mcp`. */
export const CACHE = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'diffusers-mcp')

/**
 * Path of a cached file or folder. If it is missing, `make` writes it to a temporary name, which is renamed when it is
 * complete, because two runs may make it at once.
 */
export function cached(name: string, make: (path: string) => void): string {
  const path = join(CACHE, name)
  if (existsSync(path)) return path
  const partial = `${path}.${process.pid}`
  mkdirSync(dirname(path), { recursive: true })
  make(partial)
  try {
    renameSync(partial, path)
  } catch (error) {
    rmSync(partial, { recursive: true, force: true })
    if (!existsSync(path)) throw error
  }
  return path
}
