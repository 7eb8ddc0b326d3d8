import { describe } from 'vitest'
import { endsContract } from './ends.ts'

describe('ends on node', () => endsContract('node'))
