/** The stores of pictures, and what servers that share their jobs must share besides. */
import type { S3Settings } from '../images/open.ts'
import type { ConfigProblem } from './problem.ts'
import type { Raw, Secrets } from './settings.ts'

/** Reads the settings of IMAGES_BACKEND=s3 and reports what is missing. */
export function readS3(value: Raw, secrets: Secrets, problems: ConfigProblem[]): S3Settings | undefined {
  const endpoint = value.IMAGES_S3_ENDPOINT
  const bucket = value.IMAGES_S3_BUCKET
  const accessKey = secrets.IMAGES_S3_ACCESS_KEY
  const secretKey = secrets.IMAGES_S3_SECRET_KEY
  if (endpoint && bucket && accessKey && secretKey)
    return {
      endpoint,
      bucket,
      accessKey,
      secretKey,
      region: value.IMAGES_S3_REGION,
      prefix: value.IMAGES_S3_PREFIX,
    }
  const needed = {
    IMAGES_S3_ENDPOINT: endpoint,
    IMAGES_S3_BUCKET: bucket,
    IMAGES_S3_ACCESS_KEY: accessKey,
    IMAGES_S3_SECRET_KEY: secretKey,
  }
  for (const [variable, given] of Object.entries(needed))
    if (!given && !problems.some((problem) => problem.variable.startsWith(variable)))
      problems.push({ variable, allowed: 'is needed with IMAGES_BACKEND=s3' })
  return undefined
}

/** Reports what jobs or pictures in Valkey lack, and stores that not every server could read. */
export function checkShared(value: Raw, secrets: Secrets, problems: ConfigProblem[]): void {
  const missing = !secrets.VALKEY_URL && !problems.some(({ variable }) => variable.startsWith('VALKEY_URL'))
  const user = (['JOBS_BACKEND', 'IMAGES_BACKEND'] as const).find((name) => value[name] === 'valkey')
  if (user && missing) problems.push({ variable: 'VALKEY_URL', allowed: `is needed with ${user}=valkey` })
  if (value.JOBS_BACKEND === 'valkey' && value.IMAGES_BACKEND === 'memory')
    problems.push({
      variable: 'IMAGES_BACKEND',
      got: '"memory"',
      allowed:
        'servers that share their jobs must share their pictures: set s3 or valkey, or filesystem on one machine',
    })
  if (value.JOBS_BACKEND === 'valkey' && !secrets.IMAGE_URL_KEY)
    problems.push({
      variable: 'IMAGE_URL_KEY',
      allowed:
        'is needed with JOBS_BACKEND=valkey: a link signed by one server has to be valid at the others',
    })
}
