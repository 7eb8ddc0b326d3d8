import { describe } from 'vitest'
import { advisoriesContract } from './advisories.ts'
import { authContract } from './auth.ts'

describe('deno', () => {
  describe('authentication', () => authContract('deno'))
  describe('advisories', () => advisoriesContract('deno'))
})
