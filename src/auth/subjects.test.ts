import { SignJWT } from 'jose'
import { pino } from 'pino'
import { expect, test } from 'vitest'
import { createVerifyJwt } from './jwt.ts'
import { fixedSecret } from './secret.ts'

const SECRET = 'a-secret-of-at-least-32-characters!'
const verify = createVerifyJwt({
  ...{ keys: { secret: fixedSecret(SECRET) }, algorithms: ['HS256'], issuer: 'issuer', audience: 'me' },
  log: pino({ level: 'silent' }),
})
const tokenOf = (sub: string) =>
  new SignJWT({})
    .setProtectedHeader({ alg: 'HS256' })
    .setSubject(sub)
    .setIssuer('issuer')
    .setAudience('me')
    .setExpirationTime('1h')
    .sign(new TextEncoder().encode(SECRET))

test.each(['a\u0000', 'a\nb', 'a\u009bb', 'a\u2028', 'a\ud800'])('no caller is named %j', async (sub) => {
  await expect(verify(await tokenOf(sub))).rejects.toMatchObject({
    code: 'unauthenticated',
    message: expect.stringContaining('control character'),
  })
})

test.each(['auth0|a b', 'größe@東京', 'token:alice'])('a caller may be named %j', async (sub) => {
  expect(await verify(await tokenOf(sub))).toMatchObject({ id: `issuer|${sub}` })
})
