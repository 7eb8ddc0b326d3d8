import { describe } from 'vitest'
import { soakContract } from './soak.ts'

describe('a soak on deno', () => soakContract('deno'))
