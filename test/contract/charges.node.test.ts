import { describe } from 'vitest'
import { chargesContract } from './charges.ts'

describe('node', () => chargesContract('node'))
