import { describe } from 'vitest'
import { endsContract } from './ends.ts'

describe('ends on deno', () => endsContract('deno'))
