import { describe } from 'vitest'
import { contract } from './suite.ts'

describe('deno', () => contract('deno'))
