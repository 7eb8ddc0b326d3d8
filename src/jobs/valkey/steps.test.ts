import { expect, test } from 'vitest'
import { eventually } from '../../../test/support/eventually.ts'
import { createSteps } from './steps.ts'

type Asked = readonly (readonly [id: string, run: number, progress: string])[]

/** Steps of a book that answers at once, and that says of `lost` that they are other workers'. */
function collect({ lost = [] }: { lost?: string[] } = {}) {
  const calls: Asked[] = []
  const steps = createSteps({
    book: {
      progress: async ({ steps: asked }) => {
        calls.push(asked)
        return lost
      },
    },
  })
  return { steps, calls }
}
const nothing = () => {}

test('what many runs report in one tick is told together, each run by its latest step', async () => {
  const { steps, calls } = collect()
  for (const step of [1, 2])
    for (let run = 0; run < 50; run += 1)
      steps.report(`job ${run}`, { run: 1, progress: { step, steps: 9 }, onLost: nothing })
  await eventually(() => expect(calls).toHaveLength(1))
  expect(calls[0]).toEqual(
    Array.from({ length: 50 }, (_, run) => [`job ${run}`, 1, JSON.stringify({ step: 2, steps: 9 })]),
  )
  // Nothing is left for the next tick but what is reported then.
  steps.report('job 0', { run: 1, progress: { step: 3, steps: 9 }, onLost: nothing })
  await eventually(() => expect(calls).toHaveLength(2))
  expect(calls[1]).toHaveLength(1)
  steps.stop()
})

test('a run that is another worker’s hears so, and one that ended says nothing any more', async () => {
  const { steps, calls } = collect({ lost: ['taken over'] })
  const lost: string[] = []
  for (const id of ['taken over', 'own', 'ended'])
    steps.report(id, { run: 1, progress: { step: 1, steps: 2 }, onLost: () => lost.push(id) })
  steps.forget('ended')
  await eventually(() => expect(lost).toEqual(['taken over']))
  expect(calls.flat().map(([id]) => id)).toEqual(['taken over', 'own'])
  steps.stop()
})
