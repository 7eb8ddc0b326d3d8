/**
 * A line through samples of which some are wrong: time = a fixed part + a part by work, neither of them negative. Of all
 * lines through two samples (or one of them and zero, or without slope) the one is taken that the others contradict
 * least, where a sample that is far off contradicts no more than one that is merely off. So outliers do not matter while
 * they are the minority.
 */

export interface Point {
  /** Work: steps x pixels. */
  readonly units: number
  /** Milliseconds that it took. */
  readonly ms: number
}

export interface Line {
  readonly fixedMs: number
  /** Milliseconds for each of `units`. */
  readonly unitMs: number
}

/** Samples that lines are drawn through: with these, a fit takes a fraction of a millisecond. */
const THROUGH = 24
/** A line that fits better by less than this does not fit better: it is rounding. */
const SAME = 1e-6
/** From this many samples on, a group counts no more than with this many. */
const GROUP_WEIGHT = 4

/**
 * The line that fits best.
 * @param groups samples of similar work; at least one sample in all. Each group counts, however few samples it has.
 */
export function fitLine(groups: readonly (readonly Point[])[]): Line {
  const weighted = groups.flatMap((group) => {
    const weight = Math.min(1, GROUP_WEIGHT / group.length)
    return group.map(({ units, ms }) => ({ units, ms, weight }))
  })
  let best: Line = { fixedMs: 0, unitMs: 0 }
  let least = Number.POSITIVE_INFINITY
  for (const line of linesThrough(groups.flatMap((group) => middle(group, THROUGH / groups.length)))) {
    let contradiction = 0
    for (const { units, ms, weight } of weighted) {
      const predicted = line.fixedMs + line.unitMs * units
      contradiction += (weight * Math.abs(ms - predicted)) / Math.max(ms, predicted, 1)
      if (contradiction >= least - SAME) break
    }
    if (contradiction >= least - SAME) continue
    best = line
    least = contradiction
  }
  return best
}

/** Where lines fit alike the first counts: by work alone rather than with a fixed part, and the faster one. */
function* linesThrough(points: readonly Point[]): Generator<Line> {
  const fastFirst = points.toSorted((a, b) => a.ms / a.units - b.ms / b.units)
  for (const { units, ms } of fastFirst) yield { fixedMs: 0, unitMs: ms / units }
  for (const [index, a] of fastFirst.entries())
    for (const b of fastFirst.slice(index + 1)) {
      const unitMs = (b.ms - a.ms) / (b.units - a.units)
      const fixedMs = a.ms - unitMs * a.units
      if (unitMs >= 0 && fixedMs >= 0) yield { fixedMs, unitMs }
    }
  for (const { ms } of fastFirst) yield { fixedMs: ms, unitMs: 0 }
}

/** At most so many samples of a group (at least one), from the middle of its speeds. */
function middle(group: readonly Point[], atMost: number): readonly Point[] {
  const count = Math.max(1, Math.floor(atMost))
  const from = Math.max(0, (group.length - count) >> 1)
  return group.toSorted((a, b) => a.ms / a.units - b.ms / b.units).slice(from, from + count)
}
