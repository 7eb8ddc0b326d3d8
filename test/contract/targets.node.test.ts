import { describe } from 'vitest'
import { targetsContract } from './targets.ts'

describe('node', () => targetsContract('node'))
