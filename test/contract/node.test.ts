import { describe, expect, test } from 'vitest'
import { startServer } from '../support/process.ts'
import { contract } from './suite.ts'

describe('node', () => contract('node'))

test('keeps idle connections longer than load balancers do, or calls would meet closing ones', async () => {
  const server = await startServer('node', {})
  try {
    const { headers } = await fetch(`${server.url}/health`)
    expect(headers.get('keep-alive')).toBe('timeout=120')
  } finally {
    await server.stop()
  }
})
