import { describe, expect, test } from 'vitest'
import { createOriginCheck } from './origin.ts'

const LOOPBACK = { loopback: true, allowedHosts: undefined, allowedOrigins: [], publicUrl: undefined }
const PUBLIC = { ...LOOPBACK, loopback: false, publicUrl: 'https://mcp.example.com/images' }

describe('on loopback', () => {
  const check = createOriginCheck(LOOPBACK)
  test.each(['localhost', 'localhost:8080', '127.0.0.1:8080', '[::1]:8080'])('Host %s passes', (host) => {
    expect(() => check({ host })).not.toThrow()
  })
  test.each([
    'evil.example',
    'localhost.evil.example',
    '127.0.0.1.nip.io',
    'localhost@evil.example',
    'localhost/x',
    '',
  ])('Host %j is refused', (host) => {
    expect(() => check({ host })).toThrow(/ALLOWED_HOSTS/)
  })
  test('a missing Host is refused', () => {
    expect(() => check({})).toThrow(/Host/)
  })
  test.each(['http://localhost:5173', 'http://127.0.0.1', 'https://[::1]:1'])(
    'Origin %s passes',
    (origin) => {
      expect(() => check({ host: 'localhost', origin })).not.toThrow()
    },
  )
  test.each(['https://evil.example', 'null', 'http://localhost.evil.example', 'file://'])(
    'Origin %s is refused',
    (origin) => {
      expect(() => check({ host: 'localhost', origin })).toThrow(/ALLOWED_ORIGINS/)
    },
  )
  test('a public URL and ALLOWED_HOSTS add their names', () => {
    const wider = createOriginCheck({
      ...LOOPBACK,
      publicUrl: 'https://mcp.example.com',
      allowedHosts: ['tunnel.example'],
    })
    expect(() => wider({ host: 'mcp.example.com' })).not.toThrow()
    expect(() => wider({ host: 'tunnel.example:443' })).not.toThrow()
    expect(() => wider({ host: 'evil.example' })).toThrow()
  })
})

describe('elsewhere', () => {
  test('any Host passes, unless ALLOWED_HOSTS is set', () => {
    expect(() => createOriginCheck(PUBLIC)({ host: '10.1.2.3:8080' })).not.toThrow()
    const strict = createOriginCheck({ ...PUBLIC, allowedHosts: ['svc.example'] })
    expect(() => strict({ host: '10.1.2.3:8080' })).toThrow()
    expect(() => strict({ host: 'svc.example' })).not.toThrow()
  })
  test('only the public and the allowed origins pass, loopback does not', () => {
    const check = createOriginCheck({ ...PUBLIC, allowedOrigins: ['https://app.example.com'] })
    expect(() => check({ host: 'x', origin: 'https://mcp.example.com' })).not.toThrow()
    expect(() => check({ host: 'x', origin: 'https://APP.example.com' })).not.toThrow()
    expect(() => check({ host: 'x', origin: 'http://localhost' })).toThrow()
  })
})
