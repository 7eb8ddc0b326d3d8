/** Callers without authentication, who may be strangers; and the one on stdio, who is not. */
import { describe, expect, test } from 'vitest'
import { type Connect, drawn, HTTP_CLIENTS, stdioClients } from '../../support/clients.ts'
import { eventually } from '../../support/eventually.ts'
import { rpc } from '../../support/guarded-server.ts'
import { TINY } from '../../support/requests.ts'
import { PATIENT, type Suite } from './server.ts'

const KEY_META = 'io.github.diffusers-mcp/idempotencyKey'

interface Answer {
  readonly state: string
  readonly job_id: string
  readonly image_id: string
  readonly notes?: readonly string[]
}

export function strangers(suite: Suite): void {
  const { post, slowStats, slowIsIdle } = suite
  describe('two clients without authentication', () => {
    test('that send the same body under the same key: two jobs, and to cancel one leaves the other', async () => {
      await slowIsIdle()
      const body = { ...TINY, model: 'slow', num_inference_steps: 20, seed: 77 }
      const key = { 'idempotency-key': 'order-1' }
      const before = await slowStats()
      const victim = post('/api/images', body, { ...key, ...PATIENT })
      await eventually(async () => expect((await slowStats()).started).toBe(before.started + 1))
      const attack = await post('/api/images', body, { ...key, prefer: 'respond-async' })
      expect(attack.status).toBe(202)
      const other = (await attack.json()) as Answer
      expect(other).toMatchObject({ state: 'queued', notes: [expect.stringContaining('no effect')] })
      const cancelled = await fetch(`${suite.server.url}/api/jobs/${other.job_id}`, { method: 'DELETE' })
      expect(await cancelled.json()).toMatchObject({ state: 'cancelled' })
      const made = (await (await victim).json()) as Answer
      expect(made).toMatchObject({ state: 'succeeded', notes: [expect.stringContaining('no effect')] })
      expect(made.job_id).not.toBe(other.job_id)
    })

    test('do not find each other’s keys, nor each other’s pictures by an equal request', async () => {
      const key = { ...PATIENT, 'idempotency-key': 'order-2' }
      const ask = async (body: object, headers: Record<string, string>) => {
        const answer = await post('/api/images', body, headers)
        expect(answer.status).toBe(200)
        return (await answer.json()) as Answer
      }
      const seeded = { ...TINY, seed: 78 }
      const made = [
        await ask(seeded, key),
        await ask({ ...seeded, width: 128 }, key),
        await ask(seeded, key),
        await ask(seeded, PATIENT),
        await ask(seeded, PATIENT),
      ]
      expect(new Set(made.map(({ image_id }) => image_id)).size).toBe(made.length)
      expect(made.map(({ notes }) => notes?.length)).toEqual([1, 1, 1, undefined, undefined])
    })

    test('are told over MCP too that a key had no effect', async () => {
      const client = await (HTTP_CLIENTS['current SDK, 2026-07-28'] as Connect)(suite.patient)
      const draw = () =>
        client.callTool({ name: 'generate_image', arguments: TINY, _meta: { [KEY_META]: 'order-3' } })
      const [first, second] = [await draw(), await draw()]
      expect(first.structuredContent?.notes).toEqual([expect.stringContaining('no effect')])
      expect(second.structuredContent?.image_id).not.toBe(first.structuredContent?.image_id)
      await client.close()
    })

    test('cannot list pictures', async () => {
      const { url } = suite.server
      expect((await fetch(`${url}/images`)).status).toBe(403)
      expect((await post('/api/tools/execute', { tool: 'list_images' })).status).toBe(403)
      const { result } = await rpc(url, { method: 'resources/list' })
      expect(result).toMatchObject({ resources: [] })
    })

    test('may watch and cancel a job whose id they were given', async () => {
      const body = { ...TINY, model: 'slow', num_inference_steps: 200 }
      const { job_id } = (await (
        await post('/api/images', body, { prefer: 'respond-async' })
      ).json()) as Answer
      const job = `${suite.server.url}/api/jobs/${job_id}`
      expect(await (await fetch(job)).json()).toMatchObject({ job_id })
      expect(await (await fetch(job, { method: 'DELETE' })).json()).toMatchObject({ state: 'cancelled' })
      await slowIsIdle()
    })
  })

  test.each(Object.entries(stdioClients(suite.engine)))(
    '%s: whoever started the server has keys, joins and lists',
    async (_, connect) => {
      const client = await connect({ url: suite.server.url, env: suite.env })
      const draw = async (args: object, key?: string) => {
        const { structuredContent } = await drawn(client, {
          name: 'generate_image',
          arguments: { ...TINY, ...args },
          ...(key === undefined ? {} : { _meta: { [KEY_META]: key } }),
        })
        return structuredContent as unknown as Answer
      }
      const first = await draw({}, 'order-1')
      expect(first.notes).toBeUndefined()
      expect(await draw({}, 'order-1')).toMatchObject({ image_id: first.image_id })
      const seeded = await draw({ seed: 77 })
      expect(await draw({ seed: 77 })).toMatchObject({ image_id: seeded.image_id })
      const { structuredContent } = await client.callTool({ name: 'list_images', arguments: {} })
      expect(structuredContent?.images).toMatchObject([
        { image_id: seeded.image_id },
        { image_id: first.image_id },
      ])
      await client.close()
    },
  )
}
