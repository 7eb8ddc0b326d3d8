/** A store that cannot be used says at the start which setting is wrong. */
import { describe, expect, it } from 'vitest'
import { createS3Images } from '../../../src/images/s3/s3.ts'
import { type Options, type S3Suite, settingsOf } from './suite.ts'

export function start(suite: S3Suite): void {
  const { openStore, keys } = suite

  describe('at its start', () => {
    const open = (options: Partial<Options>) =>
      createS3Images({
        ...settingsOf(suite.seaweedfs),
        bucket: suite.bucket,
        prefix: suite.prefix,
        ...options,
      })

    it.each<[string, Partial<Options>, RegExp]>([
      ['an access key that is not known', { accessKey: () => 'nobody' }, /IMAGES_S3_ACCESS_KEY/],
      ['a wrong secret key', { secretKey: () => 'a-wrong-secret' }, /IMAGES_S3_SECRET_KEY/],
      ['a bucket that is not there', { bucket: 'missing' }, /no bucket missing .*IMAGES_S3_BUCKET/],
      ['an endpoint without a server', { endpoint: 'http://127.0.0.1:9' }, /IMAGES_S3_ENDPOINT/],
    ])('names the setting for %s', async (_, options, message) => {
      const error = await open(options).then(
        () => undefined,
        (reason) => reason,
      )
      expect(error).toBeInstanceOf(Error)
      expect(error.message).toMatch(message)
      expect(`${error.stack} ${JSON.stringify(error)} ${error.cause?.stack}`).not.toMatch(
        /test-secret-key|a-wrong-secret|Signature=/,
      )
    })

    it.each<[string, number, string, RegExp]>([
      ['another region', 301, 'PermanentRedirect', /IMAGES_S3_REGION/],
      ['another region in the signature', 400, 'AuthorizationHeaderMalformed', /IMAGES_S3_REGION/],
      ['a clock that is wrong', 403, 'RequestTimeTooSkewed', /clock/],
      ['a key without rights', 403, 'AccessDenied', /IMAGES_S3_PREFIX/],
      ['something that is no S3 store', 405, '', /IMAGES_S3_ENDPOINT/],
    ])('names the setting for %s', async (_, status, code, message) => {
      const answer = async () => new Response(`<Error><Code>${code}</Code></Error>`, { status })
      await expect(open({ fetch: answer })).rejects.toThrow(message)
    })

    it('refuses a store that ignores create-if-absent', async () => {
      const unconditional: typeof fetch = (input, init) => {
        const headers = new Headers(init?.headers)
        if (!headers.has('if-none-match')) return fetch(input, init)
        return Promise.resolve(new Response())
      }
      await expect(open({ fetch: unconditional })).rejects.toThrow(/If-None-Match.*IMAGES_S3_ENDPOINT/)
    })

    it('leaves nothing in the bucket', async () => {
      await openStore()
      expect(await keys()).toEqual([])
    })
  })
}
