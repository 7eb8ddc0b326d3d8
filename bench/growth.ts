/**
 * `npm run bench:growth`: does an operation cost more when there is ten times as much of something? Prints the cost of
 * each at n and at 10 n, their ratio, and the goal. Fails where a cost grows whatever the machine does meanwhile.
 * `-- --quick` takes smaller n and fewer rounds; `-- --only TEXT` only the laws whose name contains it.
 */
import { parseArgs } from 'node:util'
import { saySkipped } from '../scripts/missing.ts'
import { findValkeyServer } from '../test/support/valkey.ts'
import { bookLaws } from './growth/book.ts'
import { followerLaws } from './growth/followers.ts'
import { GOAL, GROSS, type Law, measure, type Row } from './growth/law.ts'
import { memoryJobLaws } from './growth/memory-jobs.ts'
import { sseLaws } from './growth/sse.ts'
import { storeLaws } from './growth/stores.ts'
import { startMeasuredValkey } from './growth/valkey.ts'

const { values } = parseArgs({
  options: { quick: { type: 'boolean', default: false }, only: { type: 'string', default: '' } },
})
const { quick, only } = values
const rounds = quick ? 3 : 7

const valkey = findValkeyServer() === undefined ? undefined : await startMeasuredValkey()
if (!valkey) saySkipped('growth on Valkey', 'Put valkey-server or redis-server on the PATH.')
const laws = [
  ...(valkey ? bookLaws({ valkey, quick }) : []),
  ...memoryJobLaws({ quick }),
  ...followerLaws({ onValkey: valkey !== undefined, quick }),
  ...storeLaws({ valkey, quick }),
  ...sseLaws({ quick }),
].filter(({ where, by }) => `${where} by ${by}`.includes(only))

console.log(`Medians of ${rounds} rounds, n and 10 n in turns.\n`)
console.log(`| operation | by | n | at n | at 10 n | ratio (<= ${GOAL}) | |\n|---|---|---|---|---|---|---|`)
let grown = 0
for (const law of laws)
  for (const row of await measure(law, { rounds })) {
    if (row.ratio > GROSS) grown += 1
    console.log(line(law, row))
  }
await valkey?.stop()
if (grown > 0) console.error(`\n${grown} costs grow more than ${GROSS} times while n grows ten times.`)
process.exit(grown > 0 ? 1 : 0)

function line({ where, by, small }: Law, { operation, atSmall, atLarge, ratio }: Row): string {
  const mark = ratio > GROSS ? 'GROWS' : ratio > GOAL ? 'over' : ''
  const figures = [atSmall, atLarge].map(short)
  return `| ${where}: ${operation} | ${by} | ${small} | ${figures.join(' | ')} | ${ratio.toFixed(2)} | ${mark} |`
}

/** Three digits that count. */
function short(cost: number): string {
  return cost >= 100 ? cost.toFixed(0) : cost.toPrecision(3)
}
