/** Servers that keep their pictures in one place, on either engine. */
import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { type Running, startServer } from '../support/process.ts'
import { findPython, type Seaweedfs, startSeaweedfs } from '../support/seaweedfs.ts'
import { findValkeyServer, startValkey } from '../support/valkey.ts'

/** Where the servers of a test keep their pictures. */
interface Place {
  readonly env: Record<string, string>
  /** What is stored, as many entries as there are; 0 when nothing is left of any picture. */
  held(): Promise<number>
  kill(): Promise<void>
  restart(): unknown
  stop(): Promise<void>
}

async function bucket(): Promise<Place> {
  const seaweedfs: Seaweedfs = await startSeaweedfs()
  const name = await seaweedfs.createBucket()
  return {
    ...seaweedfs,
    env: {
      IMAGES_BACKEND: 's3',
      IMAGES_S3_ENDPOINT: seaweedfs.endpoint,
      IMAGES_S3_BUCKET: name,
      IMAGES_S3_ACCESS_KEY: seaweedfs.accessKey,
      IMAGES_S3_SECRET_KEY: seaweedfs.secretKey,
    },
    held: async () => (await seaweedfs.keysIn(name)).length,
  }
}

async function valkey(): Promise<Place> {
  const server = await startValkey()
  const env = { IMAGES_BACKEND: 'valkey', VALKEY_URL: server.url }
  return {
    ...server,
    env,
    async held() {
      const client = new Redis(server.url)
      try {
        // The sum of what all pictures take stays, at 0. The key of a check lives for a moment.
        return (await client.keys('*')).filter((key) => !/:(bytes|check)$/.test(key)).length
      } finally {
        client.disconnect()
      }
    },
  }
}

describe.each([
  { name: 'bucket', open: bucket, missing: findPython() === undefined },
  { name: 'Valkey', open: valkey, missing: findValkeyServer() === undefined },
])('a Node and a Deno server on one $name', ({ open, missing }) => {
  describe.skipIf(missing)('of pictures', () => {
    const token = 'a-token-for-shared-pictures'
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
    let place: Place
    let env: Record<string, string>
    let servers: [Running, Running]

    const make = async (server: Running) => {
      const body = JSON.stringify({ prompt: 'a lighthouse', width: 64, height: 64, num_inference_steps: 1 })
      const made = await fetch(`${server.url}/api/images`, { method: 'POST', headers, body })
      expect(made.status).toBe(200)
      return (await made.json()) as { image_id: string; url: string }
    }

    beforeAll(async () => {
      place = await open()
      env = {
        MCP_AUTH_TOKEN: token,
        IMAGE_URL_KEY: 'one-key-for-both-servers-of-the-test',
        ...place.env,
      }
      servers = [await startServer('node', env), await startServer('deno', env)]
    })
    afterAll(async () => {
      await Promise.all((servers ?? []).map((server) => server.stop()))
      await place?.stop()
    })

    test.each([
      [0, 1],
      [1, 0],
    ])('what server %i made, server %i serves, lists and deletes', async (maker, other) => {
      const [mine, serve] = [servers[maker] as Running, servers[other] as Running]
      const { image_id, url } = await make(mine)

      const link = url.replace(mine.url, serve.url)
      const picture = await fetch(link)
      expect(picture.headers.get('content-type')).toBe('image/png')
      expect(await picture.bytes()).toEqual(await (await fetch(url)).bytes())
      const listed = (await (await fetch(`${serve.url}/images`, { headers })).json()) as {
        images: { image_id: string }[]
      }
      expect(listed.images.map((image) => image.image_id)).toContain(image_id)

      expect((await fetch(`${serve.url}/images/${image_id}`, { method: 'DELETE', headers })).status).toBe(204)
      expect((await fetch(url)).status).toBe(404)
    })

    test('what expires vanishes at both, and then from the store', async () => {
      expect(await place.held()).toBe(0)
      // Long enough to be seen at both before.
      const brief = await startServer('node', { ...env, IMAGE_TTL_SECONDS: '20' })
      const { image_id } = await make(brief)
      const statuses = () =>
        Promise.all(
          servers.map(async ({ url }) => (await fetch(`${url}/images/${image_id}`, { headers })).status),
        )
      expect(await statuses()).toEqual([200, 200])
      await brief.stop()
      await eventually(async () => expect(await statuses()).toEqual([404, 404]))
      // The servers sweep at every full minute.
      await eventually(async () => expect(await place.held()).toBe(0), 180_000)
    }, 300_000)

    test('while it is away a picture is 503 with Retry-After at both, and there again afterwards', async () => {
      const { image_id } = await make(servers[0])
      await place.kill()
      try {
        for (const { url } of servers) {
          const answer = await fetch(`${url}/images/${image_id}`, { headers })
          expect(answer.status).toBe(503)
          expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0)
          expect(await answer.json()).toMatchObject({
            code: 'overloaded',
            detail: expect.stringContaining('The picture store cannot be reached'),
          })
        }
      } finally {
        await place.restart()
      }
      for (const { url } of servers)
        await eventually(
          async () => expect((await fetch(`${url}/images/${image_id}`, { headers })).status).toBe(200),
          120_000,
        )
    }, 300_000)
  })
})

describe('the start of a server', () => {
  test.skipIf(findPython() === undefined)(
    'ends with the setting to change when its bucket is not there',
    async () => {
      const place = await bucket()
      try {
        const failed = startServer('node', { ...place.env, IMAGES_S3_BUCKET: 'no-such-bucket' })
        await expect(failed).rejects.toThrow(/IMAGES_S3_BUCKET/)
      } finally {
        await place.stop()
      }
    },
  )

  test.skipIf(findValkeyServer() === undefined)(
    'ends with the setting to change when its pictures do not fit into Valkey',
    async () => {
      const server = await startValkey({ maxmemory: '200mb' })
      try {
        const failed = startServer('node', { IMAGES_BACKEND: 'valkey', VALKEY_URL: server.url })
        await expect(failed).rejects.toThrow(/IMAGES_VALKEY_MAX_BYTES=268435456 .*maxmemory is 209715200/)
      } finally {
        await server.stop()
      }
    },
  )

  test.skipIf(findValkeyServer() === undefined)('goes on without Valkey, and readiness tells', async () => {
    const server = await startValkey()
    await server.kill()
    const running = await startServer('node', { IMAGES_BACKEND: 'valkey', VALKEY_URL: server.url })
    const ready = async () => {
      const answer = await fetch(`${running.url}/ready`)
      const { dependencies } = (await answer.json()) as { dependencies: Record<string, { ok: boolean }> }
      return [answer.status, dependencies['images:valkey']?.ok]
    }
    try {
      await eventually(async () => expect(await ready()).toEqual([503, false]))
      expect(running.log).toContainEqual(expect.objectContaining({ event: 'picture store is away' }))
      await server.restart()
      await eventually(async () => expect(await ready()).toEqual([200, true]))
    } finally {
      await running.stop()
      await server.stop()
    }
  })
})
