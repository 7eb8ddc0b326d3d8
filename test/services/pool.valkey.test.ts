import { describe } from 'vitest'
import { findValkeyServer } from '../support/valkey.ts'
import { describePool, onOneValkey } from './pool.ts'

describe.skipIf(findValkeyServer() === undefined)('on Valkey', () =>
  describePool(onOneValkey(['node', 'deno'])),
)
