/** Servers that keep their pictures in one bucket, on either engine. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Running, startServer } from '../support/process.ts'
import { findPython, type Seaweedfs, startSeaweedfs } from '../support/seaweedfs.ts'

describe.skipIf(findPython() === undefined)('a Node and a Deno server on one bucket', () => {
  const token = 'a-token-for-shared-pictures'
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
  let seaweedfs: Seaweedfs
  let env: Record<string, string>
  let servers: [Running, Running]

  beforeAll(async () => {
    seaweedfs = await startSeaweedfs()
    env = {
      MCP_AUTH_TOKEN: token,
      IMAGE_URL_KEY: 'one-key-for-both-servers-of-the-test',
      IMAGES_BACKEND: 's3',
      IMAGES_S3_ENDPOINT: seaweedfs.endpoint,
      IMAGES_S3_BUCKET: await seaweedfs.createBucket(),
      IMAGES_S3_ACCESS_KEY: seaweedfs.accessKey,
      IMAGES_S3_SECRET_KEY: seaweedfs.secretKey,
    }
    servers = [await startServer('node', env), await startServer('deno', env)]
  })
  afterAll(async () => {
    await Promise.all((servers ?? []).map((server) => server.stop()))
    await seaweedfs?.stop()
  })

  test.each([
    [0, 1],
    [1, 0],
  ])('what server %i made, server %i serves, lists and deletes', async (maker, other) => {
    const [make, serve] = [servers[maker] as Running, servers[other] as Running]
    const body = JSON.stringify({ prompt: 'a lighthouse', width: 64, height: 64, num_inference_steps: 1 })
    const made = await fetch(`${make.url}/api/images`, { method: 'POST', headers, body })
    const { image_id, url } = (await made.json()) as { image_id: string; url: string }

    const link = url.replace(make.url, serve.url)
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

  test('a bucket that is not there ends the start with the setting to change', async () => {
    const failed = startServer('node', { ...env, IMAGES_S3_BUCKET: 'no-such-bucket' })
    await expect(failed).rejects.toThrow(/IMAGES_S3_BUCKET/)
  })
})
