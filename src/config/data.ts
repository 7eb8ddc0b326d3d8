/** The data sources: Trino and XDP. */
import { readFileSync } from 'node:fs'
import type { TrinoSettings, XdpSettings } from '../tools/data-tools.ts'
import { type ConfigProblem, reason } from './problem.ts'
import type { Raw, Secrets, SettingName } from './settings.ts'

/** Reads the cluster of TRINO_URL and reports what is missing, useless or unsafe. */
export function readTrino(
  value: Raw,
  secrets: Secrets,
  problems: ConfigProblem[],
): TrinoSettings | undefined {
  const { TRINO_URL: url, TRINO_USER: user, TRINO_CA_FILE: caFile } = value
  const { TRINO_PASSWORD: password, TRINO_JWT: jwt } = secrets
  const wrong = (variable: SettingName, allowed: string) => problems.push({ variable, allowed })
  if (!url) {
    const useless = { TRINO_USER: user, TRINO_PASSWORD: password, TRINO_JWT: jwt, TRINO_CA_FILE: caFile }
    for (const [name, given] of Object.entries(useless))
      if (given) wrong(name as SettingName, 'is of no use without TRINO_URL')
    return undefined
  }
  if (!user && !jwt) wrong('TRINO_USER', 'is needed with TRINO_URL, unless TRINO_JWT is set')
  if (password && !user) wrong('TRINO_USER', 'is needed with TRINO_PASSWORD')
  if (password && jwt) wrong('TRINO_PASSWORD', 'contradicts TRINO_JWT: remove one of the two')
  if ((password || jwt) && !url.startsWith('https:'))
    wrong(
      'TRINO_URL',
      'must be https:// with TRINO_PASSWORD or TRINO_JWT, which everybody on the way could read',
    )
  if (caFile)
    try {
      readFileSync(caFile)
    } catch (error) {
      wrong('TRINO_CA_FILE', `must be a readable file: ${reason(error)}`)
    }
  return { url, user, password, jwt, caFile }
}

/** Reads XDP's control plane and reports what is missing. */
export function readXdp(value: Raw, secrets: Secrets, problems: ConfigProblem[]): XdpSettings | undefined {
  const { XDP_BASE_URL: baseUrl, XDP_TIMEOUT_MS: timeoutMs } = value
  const { XDP_ACCESS_KEY: accessKey, XDP_SECRET_KEY: secretKey } = secrets
  if (baseUrl && accessKey && secretKey) return { baseUrl, accessKey, secretKey, timeoutMs }
  const given = { XDP_BASE_URL: baseUrl, XDP_ACCESS_KEY: accessKey, XDP_SECRET_KEY: secretKey }
  if (Object.values(given).every((one) => one === undefined)) return undefined
  for (const [variable, one] of Object.entries(given))
    if (!one && !problems.some((problem) => problem.variable.startsWith(variable)))
      problems.push({ variable, allowed: 'is needed too: XDP takes an address and two keys' })
  return undefined
}
