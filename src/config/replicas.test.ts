/** The addresses of a target's runtime, as RUNTIMES may give them. */
import { expect, test } from 'vitest'
import { loadConfig } from './config.ts'

const A = 'http://10.0.0.1:8080'
const B = 'http://10.0.0.2:8080'
const NAME = 'http://pool.default.svc:8080'

const read = (target: object) =>
  loadConfig({ RUNTIMES: JSON.stringify([{ name: 'gpu', kind: 'kserve', ...target }]) }).targets[0]

test.each([
  ['one url, as ever', { url: A, concurrency: 4 }],
  ['a list', { urls: [A, B], slots: 2 }],
  ['a list with a cap', { urls: [A, B], concurrency: 1 }],
  ['a name', { url: NAME, discovery: 'dns', slots: 1, scaleFromZero: true }],
  ['a list of OpenAI servers', { kind: 'openai', model: 'flux', urls: [A, B] }],
])('%s is read', (_, target) => {
  expect(read(target)).toMatchObject(target)
})

test.each([
  ['no address', {}, /RUNTIMES\[0\]\.url: must be set, or urls/],
  ['both', { url: A, urls: [B] }, /RUNTIMES\[0\]\.urls: contradicts url/],
  ['a list and discovery', { urls: [A], discovery: 'dns' }, /discovery: contradicts urls/],
  ['a replica twice', { urls: [A, `${A}/`] }, /urls: must name every replica once/],
  ['discovery of an address', { url: A, discovery: 'dns' }, /discovery: needs a name/],
  [
    'slots of one url',
    { url: A, slots: 2 },
    /slots: is for urls or discovery; with one url, set concurrency/,
  ],
  [
    'a start from zero of one url',
    { url: A, scaleFromZero: true },
    /scaleFromZero: is for urls or discovery/,
  ],
  ['another discovery', { url: NAME, discovery: 'srv' }, /discovery/],
])('%s is refused', (_, target, problem) => {
  expect(() => read(target)).toThrow(problem)
})
