/** Tries a bucket at the start of a server, so that a wrong setting stops the start and not the first picture. */
import { randomUUID } from 'node:crypto'
import { type S3Client, S3Failure } from './client.ts'

/**
 * Does once what the store will do all the time.
 * @throws Error that names the setting, when the bucket cannot be used as it has to be.
 */
export async function checkBucket(options: {
  client: S3Client
  prefix: string
  endpoint: string
  bucket: string
  region: string
}): Promise<void> {
  const { client, prefix, endpoint, bucket } = options
  const key = `${prefix}probe/${randomUUID()}`
  const body = new TextEncoder().encode('Written and deleted at the start of a server.')
  const condition = { 'if-none-match': '*' }
  let second: { readonly status: number }
  try {
    await client.list({ prefix, limit: 1 })
    await client.send({ method: 'PUT', key, body })
    second = await client.send({ method: 'PUT', key, body, headers: condition, accept: [412] })
    await client.send({ method: 'DELETE', key })
  } catch (error) {
    if (!(error instanceof S3Failure)) throw error
    throw new Error(`The image store cannot be used (${error.message}). ${adviceFor(error, options)}`, {
      cause: error,
    })
  }
  if (second.status !== 412)
    throw new Error(
      `The S3 store at ${endpoint} ignores "If-None-Match: *", so two servers could overwrite each other's pictures in ` +
        `${bucket}. Update it, or let IMAGES_S3_ENDPOINT name one that knows conditional writes.`,
    )
}

/** Writes and deletes once, in one attempt. @throws S3Failure */
export async function checkWritable({ client, prefix }: { client: S3Client; prefix: string }): Promise<void> {
  const key = `${prefix}probe/${randomUUID()}`
  const until = performance.now()
  await client.send({ method: 'PUT', key, body: new TextEncoder().encode('Can be written.'), until })
  await client.send({ method: 'DELETE', key, until })
}

/** Which setting to check after a failure. */
function adviceFor(
  failure: S3Failure,
  settings: { endpoint: string; bucket: string; region: string },
): string {
  const { endpoint, bucket, region } = settings
  const { status, code } = failure
  if (failure.transient)
    return `Nothing useful answers at ${endpoint}: check IMAGES_S3_ENDPOINT, and that the store runs and can be reached from here.`
  if (status === 404)
    return `There is no bucket ${bucket} at ${endpoint}: create it, or let IMAGES_S3_BUCKET name one that is there.`
  if (status === 301 || status === 307 || code === 'AuthorizationHeaderMalformed')
    return `The bucket ${bucket} is not in the region ${region}: set IMAGES_S3_REGION to its own, and IMAGES_S3_ENDPOINT to that region's address.`
  if (code === 'InvalidAccessKeyId')
    return 'The store does not know this key: check IMAGES_S3_ACCESS_KEY, and that it belongs to this endpoint.'
  if (code === 'SignatureDoesNotMatch')
    return 'The signature is wrong: check IMAGES_S3_SECRET_KEY, and that IMAGES_S3_ENDPOINT is the name that the store itself has.'
  if (code === 'RequestTimeTooSkewed')
    return 'Set the clock of this machine: it differs from the clock of the store.'
  if (status === 401 || status === 403)
    return (
      `The key of IMAGES_S3_ACCESS_KEY and IMAGES_S3_SECRET_KEY may not do this: allow it to list ${bucket} and to get, ` +
      'put and delete objects below IMAGES_S3_PREFIX.'
    )
  return `Check that IMAGES_S3_ENDPOINT (${endpoint}) is the address of an S3 store, and that IMAGES_S3_BUCKET (${bucket}) is a bucket of it.`
}
