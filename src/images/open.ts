/** The store of pictures that the configuration names. */
import type { Secret } from '../auth/secret.ts'
import type { Logger } from '../telemetry/log.ts'
import { createFilesystemImages } from './filesystem/filesystem.ts'
import type { ImageStore } from './image.ts'
import { createMemoryImages } from './memory.ts'

export interface S3Settings {
  readonly endpoint: string
  readonly bucket: string
  readonly region: string
  readonly prefix?: string
  readonly accessKey: Secret
  readonly secretKey: Secret
}

export interface ImagesSettings {
  readonly backend: 'memory' | 'filesystem' | 's3' | 'valkey'
  /** Of the filesystem backend. */
  readonly directory: string
  /** Bound in bytes of the memory and filesystem backends. */
  readonly maxBytes: number
  /** Bound in bytes of the valkey backend. */
  readonly valkeyMaxBytes: number
  readonly valkeyUrl?: Secret
  readonly s3?: S3Settings
  readonly log: Logger
}

/**
 * Opens the store. A backend that needs a library is loaded only where it is configured.
 * @throws Error with a sentence when the store cannot be used.
 */
export async function openImages(settings: ImagesSettings): Promise<ImageStore> {
  const { backend, directory, maxBytes, valkeyMaxBytes, valkeyUrl, s3, log } = settings
  if (backend === 'valkey' && valkeyUrl) {
    const { createValkeyImages } = await import('./valkey.ts')
    return await createValkeyImages({ url: valkeyUrl, maxBytes: valkeyMaxBytes, log })
  }
  if (backend === 'filesystem') return await createFilesystemImages({ directory, maxBytes })
  if (!s3) return createMemoryImages({ maxBytes })
  const { createS3Images } = await import('./s3/s3.ts')
  return await createS3Images({
    ...s3,
    accessKey: () => s3.accessKey.read(),
    secretKey: () => s3.secretKey.read(),
  })
}
