/**
 * `npm run bench:soak`: a server for ten minutes among clients that drop, abort and send half bodies, then idle. Shows
 * whether memory and descriptors return, and fails where the log has a line above `info`, an answer is 5xx, or jobs or
 * descriptors are left. `-- --minutes 1`, `--engine deno`, `--per-second 50`. Linux only.
 */
import { parseArgs } from 'node:util'
import type { Engine } from '../test/support/process.ts'
import { type Sample, soak } from '../test/support/soak.ts'

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    'per-second': { type: 'string', default: '20' },
    engine: { type: 'string', default: 'node' },
  },
})
const minutes = Number(values.minutes)
const perSecond = Number(values['per-second'])
if (!(minutes > 0) || !(perSecond > 0) || !['node', 'deno'].includes(values.engine)) {
  console.error('Use: npm run bench:soak -- [--minutes N] [--per-second N] [--engine node|deno]')
  process.exit(2)
}

const MIB = 2 ** 20
const show = ({ at, rss, fds }: Sample) =>
  console.log(`| ${at.toFixed(0)} s | ${(rss / MIB).toFixed(0)} MiB | ${fds} |`)

console.log(`${values.engine}, ${minutes} minutes, ${perSecond} events a second.\n`)
console.log('| at | RSS | descriptors |\n|---|---|---|')
const report = await soak({
  engine: values.engine as Engine,
  seconds: minutes * 60,
  perSecond,
  idleSeconds: Math.min(90, minutes * 6),
  onSample: show,
})
const { events, failures, complaints, statuses, during, after } = report
const halfWay = during[Math.floor(during.length / 2)] as Sample
console.log(`\nEvents: ${JSON.stringify(events)}`)
console.log(`Requests by status: ${JSON.stringify(statuses)}`)
console.log(`Log: ${(report.logBytes / MIB).toFixed(2)} MiB, ${complaints.length} lines above info`)
console.log(`RSS afterwards / half-way: ${(after.rss / halfWay.rss).toFixed(2)}`)
const broken = [
  ...failures,
  ...complaints.map((line) => JSON.stringify(line)),
  ...Object.keys(statuses)
    .filter((status) => status >= '500')
    .map((status) => `answers with ${status}`),
]
for (const line of broken.slice(0, 20)) console.error(line)
process.exit(broken.length === 0 ? 0 : 1)
