/** A law says that an operation costs the same at n and at ten times n. Both are set up and take turns. */
import { median } from '../measure.ts'

/** Costs of operations by name; the name ends in the unit. */
export type Costs = Readonly<Record<string, number>>

/** Something of one size that can be measured again and again: a round leaves it as large as it was. */
export interface Stand {
  round(): Promise<Costs>
  close(): Promise<void>
}

export interface Law {
  readonly where: string
  /** What there are n of. */
  readonly by: string
  /** n; the other stand has ten times as many. */
  readonly small: number
  /** Rounds, if other than usual. With `once` each round stands for itself, so that none is thrown away as a warm-up. */
  readonly rounds?: number
  readonly once?: boolean
  /** By operation: a cost below this counts as this much, because nobody notices it. */
  readonly floors?: Costs
  setUp(n: number): Promise<Stand>
}

export interface Row {
  readonly operation: string
  readonly atSmall: number
  readonly atLarge: number
  /** Cost at 10 n divided by cost at n. */
  readonly ratio: number
}

/** Factor by which an operation may become dearer while what it goes by grows tenfold. */
export const GOAL = 1.5
/** Above this the cost grows with n, whatever else the machine does meanwhile. */
export const GROSS = 3
/** A noisy machine gets so many attempts; the best one counts. */
const ATTEMPTS = 3

/** Measures both sizes in turns. Where a ratio is above `GROSS`, all is measured again, and the best ratio counts. */
export async function measure(law: Law, { rounds: usual }: { rounds: number }): Promise<Row[]> {
  const { small, rounds = usual, once = false } = law
  const stands = await Promise.all([law.setUp(small), law.setUp(10 * small)])
  try {
    const [few, many] = stands
    if (!once) for (const stand of stands) await stand.round()
    let best: Row[] = []
    for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
      const rows = await attemptOnce({ few, many, rounds, floors: law.floors ?? {} })
      best = rows.map((row, index) => {
        const earlier = best[index]
        return earlier && earlier.ratio < row.ratio ? earlier : row
      })
      if (best.every(({ ratio }) => ratio <= GROSS)) break
    }
    return best
  } finally {
    for (const stand of stands) await stand.close()
  }
}

async function attemptOnce(options: {
  readonly few: Stand
  readonly many: Stand
  readonly rounds: number
  readonly floors: Costs
}): Promise<Row[]> {
  const { few, many, rounds, floors } = options
  const atSmall: Costs[] = []
  const atLarge: Costs[] = []
  for (let round = 0; round < rounds; round += 1) {
    const turns = [
      async () => {
        atSmall.push(await few.round())
      },
      async () => {
        atLarge.push(await many.round())
      },
    ]
    // What one leaves behind, such as garbage, disturbs the next: each of them is the next one equally often.
    for (const turn of round % 2 === 0 ? turns : turns.reverse()) await turn()
  }
  return Object.keys(atSmall[0] as Costs).map((operation) => {
    const of = (costs: readonly Costs[]) => median(costs.map((cost) => cost[operation] as number))
    const [before, after] = [of(atSmall), of(atLarge)]
    const floor = floors[operation] ?? Number.MIN_VALUE
    const ratio = Math.max(after, floor) / Math.max(before, floor)
    return { operation, atSmall: before, atLarge: after, ratio }
  })
}

/** CPU time of this process that an act needs, in microseconds. What else it does meanwhile counts as well. */
export async function cpuMicros(act: () => Promise<unknown>): Promise<number> {
  const before = process.cpuUsage()
  await act()
  const { user, system } = process.cpuUsage(before)
  return user + system
}
