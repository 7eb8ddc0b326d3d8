import { describe } from 'vitest'
import { embeddedContract } from './embedded.ts'

describe('node', () => embeddedContract('node'))
