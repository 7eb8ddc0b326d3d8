import { describe } from 'vitest'
import { chargesContract } from './charges.ts'

describe('deno', () => chargesContract('deno'))
