/** What belongs to one caller, and all ways by which another could reach for it. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { PUBLIC_URL, rpc, TOKENS } from '../../support/guarded-server.ts'
import { ERROR_META, TINY } from '../../support/requests.ts'
import type { AuthSuite } from './server.ts'

const SLOW = { ...TINY, model: 'slow', num_inference_steps: 200 }

export function callers(suite: AuthSuite): void {
  const { post, guarded } = suite
  describe('callers', () => {
    let picture: string
    let job: string
    let others: Record<string, string>

    beforeAll(async () => {
      const made = (await (await post('/api/images', { ...TINY, seed: 1 }, TOKENS.alice)).json()) as {
        image_id: string
      }
      picture = made.image_id
      const running = await post('/api/images', SLOW, TOKENS.alice, {
        prefer: 'respond-async',
        'idempotency-key': 'alice-1',
      })
      job = ((await running.json()) as { job_id: string }).job_id
      others = {
        'another name': TOKENS.bob,
        'the nameless token': TOKENS.default,
        'a JWT': await suite.server.issuer.token({ sub: 'bob' }),
        'a JWT of the same name': await suite.server.issuer.token({ sub: 'alice' }),
        'a JWT of the same id': await suite.server.issuer.token({ sub: 'token:alice' }),
      }
    })
    afterAll(async () => {
      await fetch(`${suite.server.url}/api/jobs/${job}`, {
        method: 'DELETE',
        headers: { authorization: `Bearer ${TOKENS.alice}` },
      })
    })

    test('reach no other caller’s job or picture by any route that takes an id', async () => {
      const byId = guarded().filter(({ path }) => path.includes(':id'))
      expect(byId.length).toBeGreaterThanOrEqual(5)
      for (const [who, token] of Object.entries(others))
        for (const { method, path } of byId)
          for (const id of [picture, job]) {
            const answer = await fetch(suite.server.url + path.replace(':id', id), {
              method,
              headers: { authorization: `Bearer ${token}` },
            })
            expect([who, method, path, answer.status]).toEqual([who, method, path, 404])
          }
    })

    test('nor by any tool, resource or task', async () => {
      const calls: [string, Record<string, unknown>][] = [
        ['tools/call', { name: 'get_image_job', arguments: { job_id: job, wait_seconds: 0 } }],
        ['tools/call', { name: 'cancel_image_job', arguments: { job_id: job } }],
        ['resources/read', { uri: `image://${picture}` }],
        ['tasks/get', { taskId: job }],
        ['tasks/update', { taskId: job, inputResponses: {} }],
        ['tasks/cancel', { taskId: job }],
      ]
      for (const [who, token] of Object.entries(others))
        for (const [method, params] of calls) {
          const { result, error } = await rpc(suite.server.url, { token, method, params })
          if (method === 'tools/call')
            expect(result?._meta, who).toMatchObject({ [ERROR_META]: { code: 'not_found' } })
          else expect(error?.message, `${who}: ${method}`).toMatch(/not found|no job/i)
        }
    })

    test('nor by a listing', async () => {
      for (const [who, token] of Object.entries(others)) {
        const listings = [
          await (
            await fetch(`${suite.server.url}/images`, { headers: { authorization: `Bearer ${token}` } })
          ).text(),
          await (await post('/api/tools/execute', { tool: 'list_images' }, token)).text(),
          JSON.stringify(await rpc(suite.server.url, { token, method: 'resources/list' })),
          JSON.stringify(
            await rpc(suite.server.url, { token, method: 'tools/call', params: { name: 'list_images' } }),
          ),
        ]
        for (const listing of listings) {
          expect(listing, who).toMatch(/images|resources/)
          expect(listing, who).not.toContain(picture)
        }
      }
    })

    test('nor by an idempotency key or an equal request', async () => {
      for (const token of Object.values(others)) {
        const made = await post('/api/images', { ...TINY, seed: 1 }, token, { 'idempotency-key': 'alice-1' })
        const answer = (await made.json()) as { image_id: string; job_id: string }
        expect(answer).toMatchObject({ state: 'succeeded' })
        expect([picture, job]).not.toContain(answer.image_id)
        expect([picture, job]).not.toContain(answer.job_id)
      }
    })

    test('nor by a link that is not for it', async () => {
      const { url } = (await (await post('/api/images', { ...TINY, seed: 2 }, TOKENS.bob)).json()) as {
        url: string
      }
      const { search, pathname } = new URL(url)
      const own = pathname.slice(new URL(PUBLIC_URL).pathname.length)
      expect((await fetch(suite.server.url + own + search)).status).toBe(200)
      const foreign = `/images/${picture}`
      for (const [method, path] of [
        ['GET', foreign],
        ['GET', `${own}/metadata`],
        ['GET', `${foreign}/metadata`],
        ['GET', '/images'],
        ['GET', `/api/jobs/${job}`],
        ['DELETE', own],
        ['HEAD', foreign],
      ] as const) {
        const { status } = await fetch(suite.server.url + path + search, { method })
        expect([method, path, [401, 403].includes(status)]).toEqual([method, path, true])
      }
    })

    test('and after all of that the owner still has both', async () => {
      const headers = { authorization: `Bearer ${TOKENS.alice}` }
      expect((await fetch(`${suite.server.url}/images/${picture}`, { headers })).status).toBe(200)
      expect(await (await fetch(`${suite.server.url}/api/jobs/${job}`, { headers })).json()).toMatchObject({
        state: expect.stringMatching(/queued|running/),
      })
    })
  })
}
