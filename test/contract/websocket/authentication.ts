/** Who may open a connection, what it may ask there, and until when. */
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { MCPWebSocketClient } from '../../../src/client/client.ts'
import {
  ALLOWED_ORIGIN,
  type GuardedServer,
  startGuardedServer,
  TOKENS,
} from '../../support/guarded-server.ts'
import { openPlainSocket, type PlainSocket } from '../../support/plain-socket.ts'
import { type Engine, type Running, startServer } from '../../support/process.ts'
import { ERROR_META, TINY } from '../../support/requests.ts'
import { rawUpgrade, upgradeStatus, wsUrl } from './peers.ts'

export function authentication(engine: Engine): void {
  describe('with authentication', () => {
    let server: GuardedServer
    beforeAll(async () => {
      server = await startGuardedServer(engine)
    })
    afterAll(() => server?.stop())
    const bearer = (token: string) => `bearer.${Buffer.from(token).toString('base64url')}`

    test('lets in by header or subprotocol, echoes no token, and asks all others for one', async () => {
      const url = wsUrl(server)
      const header = (token: string) => ({ authorization: `Bearer ${token}` })
      const jwt = await server.issuer.token({ sub: 'carol' })
      for (const token of [TOKENS.alice, TOKENS.default, jwt]) {
        expect((await upgradeStatus(url, header(token))).status).toBe(101)
        const { status, headers } = await upgradeStatus(url, {}, ['mcp', bearer(token)])
        expect([status, headers['sec-websocket-protocol']]).toEqual([101, 'mcp'])
      }
      const refused = [
        await upgradeStatus(url),
        await upgradeStatus(url, header('wrong-token-wrong-token')),
        await upgradeStatus(url, header(TOKENS.former)),
        await upgradeStatus(url, { authorization: `Basic ${TOKENS.alice}` }),
        await upgradeStatus(url, {}, ['mcp', bearer('wrong-token-wrong-token')]),
        await upgradeStatus(url, {}, ['mcp', `bearer.${TOKENS.alice}`]),
        await upgradeStatus(`${url}?access_token=${TOKENS.alice}`),
        await upgradeStatus(`${url}?access_token=${TOKENS.alice}`, header(TOKENS.alice)),
      ]
      for (const { status, headers } of refused)
        expect([status, headers['www-authenticate']]).toEqual([401, expect.stringMatching(/^Bearer/)])
      expect(
        (await upgradeStatus(url, { ...header(TOKENS.alice), origin: 'https://evil.example' })).status,
      ).toBe(403)
      expect((await upgradeStatus(url, { ...header(TOKENS.alice), origin: ALLOWED_ORIGIN })).status).toBe(101)
      expect(JSON.stringify(server.log)).not.toContain(bearer(TOKENS.alice))
    })

    test('scopes hold, and another caller’s job is not found', async () => {
      const open = (token: string) => openPlainSocket(wsUrl(server), { protocols: ['mcp', bearer(token)] })
      const reader = await open(TOKENS.reader)
      const call = (name: string, args: object) => ({ name, arguments: args })
      expect(await reader.request('tools/call', call('generate_image', TINY))).toMatchObject({
        isError: true,
        _meta: { [ERROR_META]: { code: 'forbidden' } },
      })
      const alice = await open(TOKENS.alice)
      const { structuredContent } = await alice.request('tools/call', call('generate_image', TINY))
      const uri = `image://${(structuredContent as { image_id: string }).image_id}`
      expect(await alice.request('resources/read', { uri })).toMatchObject({ contents: [{ uri }] })
      await expect(reader.request('resources/read', { uri })).rejects.toThrow(/not found/i)
      alice.socket.close()
      reader.socket.close()
    })

    test('closes with 1008 when the token expires', async () => {
      // A token that expired before it was shown is refused: then with one that lasts longer.
      const open = async (seconds: number): Promise<PlainSocket> => {
        const exp = Math.floor(Date.now() / 1000) + seconds
        const token = await server.issuer.token({ sub: 'carol', claims: { exp } })
        return await openPlainSocket(wsUrl(server), { protocols: ['mcp', bearer(token)] }).catch((error) => {
          if (Date.now() / 1000 < exp || seconds > 20) throw error
          return open(2 * seconds)
        })
      }
      const plain = await open(4)
      expect((await plain.closed).code).toBe(1008)
    })

    test('MCPWebSocketClient says what is wrong with a token, and asks for another where it can', async () => {
      const wrong = new MCPWebSocketClient({ url: wsUrl(server), authToken: 'wrong-token-wrong-token' })
      await expect(wrong.connect()).rejects.toMatchObject({ code: 'connection_failed' })
      const right = new MCPWebSocketClient({ url: wsUrl(server), authToken: TOKENS.alice })
      await right.connect()
      expect((await right.executeTool('list_images')).data).toMatchObject({ images: expect.anything() })
      await expect(right.executeTool('get_image_job', { job_id: 'nothing' })).rejects.toMatchObject({
        code: expect.stringMatching(/not_found|invalid_request/),
      })
      await right.close()
    })
  })
}

export function pings(engine: Engine): void {
  describe('that is pinged every second', () => {
    const OLD = 'the-token-of-yesterday'
    let server: Running
    let file: string
    beforeAll(async () => {
      file = join(mkdtempSync(join(tmpdir(), 'token-')), 'token')
      writeFileSync(file, OLD)
      server = await startServer(engine, { LOG_LEVEL: 'info', WS_PING_MS: '1000', MCP_AUTH_TOKEN_FILE: file })
    })
    afterAll(() => server?.stop())

    test('drops a peer that answers no ping', async () => {
      const asked = performance.now()
      const socket = await rawUpgrade(server.url, { Authorization: `Bearer ${OLD}` })
      await new Promise<void>((resolve) => {
        socket.on('close', () => resolve())
        socket.on('error', () => resolve())
        socket.resume()
      })
      // Not before it had the time to answer one.
      expect(performance.now() - asked).toBeGreaterThan(1000)
    })

    test('closes with 1008 when the token was withdrawn', async () => {
      const bearer = `bearer.${Buffer.from(OLD).toString('base64url')}`
      const plain = await openPlainSocket(wsUrl(server), { protocols: ['mcp', bearer] })
      writeFileSync(file, 'the-token-of-today')
      expect((await plain.closed).code).toBe(1008)
    })
  })
}
