/** The means of authentication. */
import type { AuthSettings } from '../auth/authenticate.ts'
import { type Algorithm, ASYMMETRIC, type JwtSettings, SYMMETRIC } from '../auth/jwt.ts'
import { parseTokens } from '../auth/tokens.ts'
import { type ConfigProblem, reason } from './problem.ts'
import type { Raw, Secrets, SettingName } from './settings.ts'

/** Reads the means of authentication and reports what is missing or contradictory. */
export function readAuth(value: Raw, secrets: Secrets, problems: ConfigProblem[]): AuthSettings {
  if (secrets.AUTH_TOKENS)
    try {
      parseTokens(secrets.AUTH_TOKENS.read())
    } catch (error) {
      problems.push({ variable: 'AUTH_TOKENS', allowed: `must be a JSON array of tokens: ${reason(error)}` })
    }
  return {
    token: secrets.MCP_AUTH_TOKEN,
    tokens: secrets.AUTH_TOKENS,
    jwt: readJwt(value, secrets, problems),
  }
}

function readJwt(value: Raw, secrets: Secrets, problems: ConfigProblem[]): JwtSettings | undefined {
  const jwksUrl = value.AUTH_JWT_JWKS_URL
  const secret = secrets.AUTH_JWT_SECRET
  const { AUTH_JWT_ISSUER: issuer, AUTH_JWT_AUDIENCE: audience, AUTH_JWT_ALGORITHMS: chosen } = value
  if (!jwksUrl && !secret && !issuer && !audience && !chosen) return undefined
  const complain = (variable: SettingName, allowed: string) => {
    if (!problems.some((problem) => problem.variable.startsWith(variable)))
      problems.push({ variable, allowed })
  }
  if (jwksUrl && secret) complain('AUTH_JWT_SECRET', 'contradicts AUTH_JWT_JWKS_URL: remove one of the two')
  if (!jwksUrl && !secret)
    complain('AUTH_JWT_JWKS_URL', 'or AUTH_JWT_SECRET is needed: JWTs cannot be checked without keys')
  if (!issuer) complain('AUTH_JWT_ISSUER', 'is needed: whose JWTs are accepted?')
  if (!audience)
    complain('AUTH_JWT_AUDIENCE', 'is needed: else tokens meant for other servers would be accepted')
  const family: readonly Algorithm[] = secret ? SYMMETRIC : ASYMMETRIC
  if (chosen?.some((algorithm) => !family.includes(algorithm)))
    complain(
      'AUTH_JWT_ALGORITHMS',
      `allowed with ${secret ? 'AUTH_JWT_SECRET' : 'AUTH_JWT_JWKS_URL'}: ${family.join(', ')}`,
    )
  const keys = secret ? { secret } : jwksUrl ? { jwksUrl } : undefined
  if (!keys || !issuer || !audience) return undefined
  return { keys, issuer, audience, algorithms: chosen ?? (secret ? ['HS256'] : ASYMMETRIC) }
}

/** Checks that a server others can reach has authentication, or that its operator wanted none. */
export function checkReach({
  env,
  value,
  loopback,
  problems,
}: {
  env: Readonly<Record<string, string | undefined>>
  value: Raw
  loopback: boolean
  problems: ConfigProblem[]
}): void {
  // A variable with a wrong value counts too: it has a problem of its own.
  const means = Object.keys(env).filter(
    (name) => /^(MCP_AUTH_TOKEN|AUTH_TOKENS|AUTH_JWT_)/.test(name) && env[name],
  )
  if (value.AUTH === 'none' && means.length > 0)
    problems.push({
      variable: 'AUTH',
      got: '"none"',
      allowed: `contradicts ${means.join(', ')}: remove one of the two`,
    })
  if (value.HOST !== undefined && !loopback && value.AUTH === 'auto' && means.length === 0)
    problems.push({
      variable: 'HOST',
      got: JSON.stringify(value.HOST),
      allowed:
        'others can reach this address: set MCP_AUTH_TOKEN, AUTH_TOKENS or AUTH_JWT_…, or say AUTH=none if that is meant',
    })
}
