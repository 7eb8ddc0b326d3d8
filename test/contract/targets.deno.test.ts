import { describe } from 'vitest'
import { targetsContract } from './targets.ts'

describe('deno', () => targetsContract('deno'))
