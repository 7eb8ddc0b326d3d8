import { existsSync } from 'node:fs'
import { expect, test } from 'vitest'
import { environmentNamed } from './environments.ts'

test.each([
  ['dev', 'mcp-server-dev', 'tiny-sd', 'values-dev.yaml'],
  ['staging', 'mcp-server-staging', 'tiny-sd', 'values-staging.yaml'],
  ['production', 'mcp-server-production', 'redhat-dog', 'values-prod.yaml'],
  ['prod', 'mcp-server-production', 'redhat-dog', 'values-prod.yaml'],
])('ENV=%s is namespace %s with runtime %s and %s', (name, namespace, runtime, values) => {
  const environment = environmentNamed(name)
  expect(environment).toMatchObject({ namespace, runtime })
  expect(environment.values).toMatch(new RegExp(`/${values}$`))
  expect(existsSync(environment.values)).toBe(true)
  expect(environment.runtimeClients).toContain(namespace)
})

test('another name is refused with the choices', () => {
  expect(() => environmentNamed('test')).toThrow('ENV=test: there are dev, staging and production (or prod).')
})
