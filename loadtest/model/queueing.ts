/**
 * A target as a queue: Poisson arrivals, every picture takes the same time, `servers` slots, room for `places` pictures in
 * all, first come first served: M/D/c/K in Kendall's notation. There is no exact formula for it; this is the
 * approximation of Tijms, van Hoorn and Federgruen for M/G/c with finite room (H. C. Tijms, A First Course in Stochastic
 * Models, Wiley 2003, section 9.8), in which the time until a slot frees is that of c residual services while all are busy:
 *
 *   p(j) = (c rho)^j / j! p(0)                                                    j < c
 *   p(j) = lambda a(j-c) p(c-1) + lambda sum over k = c..j of b(j-k) p(k)          c <= j < K
 *   p(K) = rho p(c-1) - (1 - rho) sum over j = c..K-1 of p(j)
 *   a(n) = integral over 0..D of (1 - t/D)^(c-1) poisson(n; lambda t) dt
 *   b(n) = integral over 0..D/c of poisson(n; lambda t) dt = P(Poisson(lambda D / c) > n) / lambda
 *
 * It is exact for c = 1 and for K = c (Erlang's loss formula), and holds on both sides of rho = 1; beside simulations the
 * share of refusals is right to 0.1 percent of the calls, and waits come out up to a tenth too long. Who finds j >= c
 * pictures waits for j - c + 1 of them to end. While all slots work, each ends one every D, at places in that time that
 * are as good as random: the r-th of c random points, r = 1..c, which is Beta(r, c + 1 - r) distributed.
 */

export interface QueueModel {
  /** Share of calls that find no place. */
  readonly refusedShare: number
  /** Pictures per second that are made. */
  readonly deliveredPerSecond: number
  /** Mean wait for a slot of those who are admitted, in seconds. */
  readonly meanWaitSeconds: number
  /** The wait, in seconds, that `share` of the admitted stay within. */
  waitWithin(share: number): number
}

/** Steps of Simpson's rule; the integrands are smooth. */
const STEPS = 400
/** Bigger numbers are scaled down, so that thousands of places do not overflow. */
const LARGE = 1e100

/** The queue in its steady state. @throws RangeError for what is no such queue. */
export function queueModel(options: {
  readonly arrivalsPerSecond: number
  readonly serviceSeconds: number
  /** Slots: the target's concurrency. */
  readonly servers: number
  /** Slots and queue together. */
  readonly places: number
}): QueueModel {
  const { arrivalsPerSecond, serviceSeconds, servers, places } = options
  if (!(arrivalsPerSecond > 0 && serviceSeconds > 0))
    throw new RangeError('arrivalsPerSecond and serviceSeconds must be positive.')
  if (!(Number.isInteger(servers) && Number.isInteger(places) && servers >= 1 && places >= servers))
    throw new RangeError('servers and places must be whole numbers, 1 <= servers <= places.')
  const p = stateProbabilities(options)
  const refusedShare = p[places] as number
  const admitted = p.slice(0, places).map((share) => share / (1 - refusedShare))
  const served = arrivalsPerSecond * (1 - refusedShare)
  const waiting = p.reduce((sum, share, j) => sum + share * Math.max(0, j - servers), 0)

  /** P(wait <= seconds) of an admitted call. */
  const within = (seconds: number) => {
    const turns = Math.floor(seconds / serviceSeconds)
    const atLeast = binomialTails(servers, seconds / serviceSeconds - turns)
    return admitted.reduce((sum, share, j) => {
      const before = j - servers
      if (before < 0) return sum + share
      const turn = Math.floor(before / servers)
      if (turn < turns) return sum + share
      return turn > turns ? sum : sum + share * (atLeast[(before % servers) + 1] as number)
    }, 0)
  }

  return {
    refusedShare,
    deliveredPerSecond: served,
    // Little's law.
    meanWaitSeconds: waiting / served,
    waitWithin(share) {
      if (within(0) >= share) return 0
      let [low, high] = [0, Math.ceil(places / servers) * serviceSeconds]
      while (high - low > serviceSeconds / 10_000) {
        const middle = (low + high) / 2
        if (within(middle) < share) low = middle
        else high = middle
      }
      return high
    },
  }
}

/** p(0) ... p(places). */
function stateProbabilities(options: {
  arrivalsPerSecond: number
  serviceSeconds: number
  servers: number
  places: number
}): number[] {
  const { arrivalsPerSecond: lambda, serviceSeconds, servers, places } = options
  const offered = lambda * serviceSeconds
  const rho = offered / servers
  let p: number[] = new Array(servers)
  const put = (j: number, share: number) => {
    p[j] = share
    if (share > LARGE) p = p.map((other) => other / LARGE)
  }
  put(servers - 1, 1)
  for (let j = servers - 1; j > 0; j -= 1) put(j - 1, ((p[j] as number) * j) / offered)
  const b = poissonTails(offered / servers, places - servers)
  for (let j = servers; j < places; j += 1) {
    let sum = lambda * firstTurn(j - servers, options) * (p[servers - 1] as number)
    for (let k = servers; k < j; k += 1) sum += (b[j - k] as number) * (p[k] as number)
    put(j, sum / (1 - (b[0] as number)))
  }
  const busy = p.slice(servers).reduce((sum, share) => sum + share, 0)
  p[places] = Math.max(0, rho * (p[servers - 1] as number) - (1 - rho) * busy)
  const total = p.reduce((sum, share) => sum + share, 0)
  return p.map((share) => share / total)
}

/** a(n) by Simpson's rule. */
function firstTurn(
  n: number,
  { arrivalsPerSecond, serviceSeconds, servers }: Parameters<typeof stateProbabilities>[0],
): number {
  const logFactorial = logGamma(n + 1)
  const at = (t: number) => {
    const mean = arrivalsPerSecond * t
    const poisson = mean === 0 ? Number(n === 0) : Math.exp(n * Math.log(mean) - mean - logFactorial)
    return (1 - t / serviceSeconds) ** (servers - 1) * poisson
  }
  // Below a gamma density of this rate, of which nothing is left beyond.
  const rate = arrivalsPerSecond + (servers - 1) / serviceSeconds
  const end = Math.min(serviceSeconds, (n + 31 + 12 * Math.sqrt(n + 1)) / rate)
  const width = end / STEPS
  let sum = at(0) + at(end)
  for (let step = 1; step < STEPS; step += 1) sum += (step % 2 === 1 ? 4 : 2) * at(step * width)
  return (sum * width) / 3
}

/** P(Poisson(mean) > n) for n = 0..max. */
function poissonTails(mean: number, max: number): number[] {
  const tails: number[] = []
  let term = Math.exp(-mean)
  let below = 0
  for (let n = 0; n <= max; n += 1) {
    below += term
    tails.push(Math.max(0, 1 - below))
    term *= mean / (n + 1)
  }
  return tails
}

/** P(at least r of `count` succeed) for r = 0..count. */
function binomialTails(count: number, chance: number): number[] {
  const tails: number[] = new Array(count + 2).fill(0)
  for (let r = count; r >= 0; r -= 1) {
    const ways = logGamma(count + 1) - logGamma(r + 1) - logGamma(count - r + 1)
    const exactly =
      chance === 0
        ? Number(r === 0)
        : Math.exp(ways + r * Math.log(chance) + (count - r) * Math.log1p(-chance))
    tails[r] = (tails[r + 1] as number) + exactly
  }
  return tails
}

const logFactorials = [0]
/** ln (n - 1)! for whole n >= 1. */
function logGamma(n: number): number {
  while (logFactorials.length < n)
    logFactorials.push((logFactorials.at(-1) as number) + Math.log(logFactorials.length))
  return logFactorials[n - 1] as number
}
