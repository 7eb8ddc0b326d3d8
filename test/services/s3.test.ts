import { afterAll, beforeAll, describe, it } from 'vitest'
import { createS3Images } from '../../src/images/s3/s3.ts'
import { imageStoreContract } from '../backends/images.ts'
import { findPython, type Seaweedfs, startSeaweedfs } from '../support/seaweedfs.ts'
import { objects } from './s3/objects.ts'
import { crash, sharing } from './s3/sharing.ts'
import { start } from './s3/start.ts'
import { createS3Suite, settingsOf } from './s3/suite.ts'
import { trouble } from './s3/trouble.ts'

const SKIPPED = findPython() === undefined

if (SKIPPED)
  describe('the S3 store', () => {
    it.skip('is not tested: Python 3.9 or newer with venv, which installs SeaweedFS, is not on the PATH')
  })
else {
  let seaweedfs: Seaweedfs
  beforeAll(async () => {
    seaweedfs = await startSeaweedfs()
  }, 300_000)
  afterAll(() => seaweedfs?.stop())

  let folders = 0
  let contractBucket: string
  imageStoreContract('the S3 store', async (options) => {
    contractBucket ??= await seaweedfs.createBucket()
    return createS3Images({
      ...settingsOf(seaweedfs),
      ...options,
      bucket: contractBucket,
      prefix: `stores/${++folders}`,
    })
  })

  describe('the S3 store', () => {
    const suite = createS3Suite(() => seaweedfs)
    for (const topic of [objects, sharing, crash, start, trouble]) topic(suite)
  })
}
