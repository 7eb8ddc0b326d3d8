/** What the environments of the deployment guides are: namespaces, values and the runtime each one uses. */
import { fileURLToPath } from 'node:url'

export const ROOT = fileURLToPath(new URL('../..', import.meta.url))

export interface Environment {
  readonly name: 'dev' | 'staging' | 'production'
  readonly namespace: string
  readonly values: string
  /** The runtime's release, Service and target. */
  readonly runtime: string
  /** Namespaces whose servers use that runtime. */
  readonly runtimeClients: readonly string[]
}

/** The server's release: every object of it has this name. */
export const RELEASE = 'mcp-server'
/** Where runtimes live that several environments share. */
export const RUNTIME_NAMESPACE = 'default'

const environment = (
  name: Environment['name'],
  runtime: string,
  clients: readonly string[],
): Environment => ({
  name,
  namespace: `mcp-server-${name}`,
  values: `${ROOT}values-${name === 'production' ? 'prod' : name}.yaml`,
  runtime,
  runtimeClients: clients,
})
const TINY_CLIENTS = ['mcp-server-dev', 'mcp-server-staging']
const ENVIRONMENTS: Record<string, Environment> = {
  dev: environment('dev', 'tiny-sd', TINY_CLIENTS),
  staging: environment('staging', 'tiny-sd', TINY_CLIENTS),
  production: environment('production', 'redhat-dog', ['mcp-server-production']),
}

/** An environment by the name that a person wrote; `prod` is production. @throws Error that names the choices. */
export function environmentNamed(name: string): Environment {
  const found = ENVIRONMENTS[name === 'prod' ? 'production' : name]
  if (!found) throw new Error(`ENV=${name}: there are dev, staging and production (or prod).`)
  return found
}
