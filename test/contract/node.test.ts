import { describe } from 'vitest'
import { contract } from './suite.ts'

describe('node', () => contract('node'))
