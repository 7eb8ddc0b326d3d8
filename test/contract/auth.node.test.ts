import { describe } from 'vitest'
import { advisoriesContract } from './advisories.ts'
import { authContract } from './auth.ts'

describe('node', () => {
  describe('authentication', () => authContract('node'))
  describe('advisories', () => advisoriesContract('node'))
})
