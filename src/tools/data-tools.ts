/** The data toolsets, Trino and XDP: their clients, their tools, and the dependencies that /ready checks. */
import type { Secret } from '../auth/secret.ts'
import { createTrino, type Trino } from '../datasources/trino.ts'
import { createXdp, type Xdp } from '../datasources/xdp.ts'
import type { Logger } from '../telemetry/log.ts'
import { createTrinoAccess } from './trino/access.ts'
import { describeTable } from './trino/describe-table.ts'
import { executeQuery } from './trino/execute-query.ts'
import { listCatalogs } from './trino/list-catalogs.ts'
import { listSchemas } from './trino/list-schemas.ts'
import { listTables } from './trino/list-tables.ts'
import { listDatastores } from './xdp/list-datastores.ts'

/** The address of a Trino cluster and the credentials for it. */
export interface TrinoSettings {
  readonly url: string
  readonly user: string | undefined
  readonly password: Secret | undefined
  readonly jwt: Secret | undefined
  readonly caFile: string | undefined
}

/** The address of XDP's control plane and the credentials for it. */
export interface XdpSettings {
  readonly baseUrl: string
  readonly accessKey: Secret
  readonly secretKey: Secret
  readonly timeoutMs: number
}

export interface DataSettings {
  /** The limits apply to every Trino tool, with a direct connection or through XDP. */
  readonly trino: {
    readonly cluster: TrinoSettings | undefined
    readonly timeoutMs: number
    readonly maxRows: number
    readonly maxBytes: number
    readonly allowWrites: boolean
  }
  readonly xdp: XdpSettings | undefined
}

const TRINO_TOOLS = [executeQuery, listCatalogs, listSchemas, listTables, describeTable]

/** Opens the data sources that are configured. @throws Error if the file with Trino's certificates cannot be read. */
export function openDataTools(settings: DataSettings, log: Logger) {
  const { cluster: clusterSettings, maxRows, maxBytes, timeoutMs, allowWrites } = settings.trino
  const cluster = clusterSettings && openTrino(clusterSettings)
  const xdp = settings.xdp && openXdp(settings.xdp)
  const limits = { maxRows, maxBytes }
  const access = createTrinoAccess({ cluster, xdp, limits, timeoutMs, allowWrites, log })
  return {
    tools: [
      ...(xdp ? [listDatastores({ xdp, log })] : []),
      ...(cluster || xdp ? TRINO_TOOLS.map((create) => create(access)) : []),
    ],
    dependencies: [
      ...(xdp ? [{ name: 'xdp', toolset: 'xdp', check: xdp.check }] : []),
      ...(cluster ? [{ name: 'trino', toolset: 'trino', check: cluster.check }] : []),
    ],
    async close() {
      await Promise.all([xdp?.close(), cluster?.close()])
    },
  }
}

function openTrino({ url, user, password, jwt, caFile }: TrinoSettings): Trino {
  return createTrino({
    url,
    user,
    password: password && (() => password.read()),
    jwt: jwt && (() => jwt.read()),
    caFile,
  })
}

function openXdp({ baseUrl, accessKey, secretKey, timeoutMs }: XdpSettings): Xdp {
  return createXdp({
    baseUrl,
    accessKey: () => accessKey.read(),
    secretKey: () => secretKey.read(),
    timeoutMs,
  })
}
