import { describe } from 'vitest'
import { embeddedContract } from './embedded.ts'

describe('deno', () => embeddedContract('deno'))
