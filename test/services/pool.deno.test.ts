import { alone, describePool } from './pool.ts'

describePool(alone('deno'))
