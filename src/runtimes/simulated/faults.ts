/** How a simulated runtime misbehaves while it runs, for tests of what stands before it. Without a fault it works. */
import { z } from 'zod'

/** What goes wrong at present; every fault is off where its field is absent. */
export const simulatedFaults = z.strictObject({
  msPerStep: z
    .number()
    .min(0)
    .max(60_000)
    .optional()
    .describe(
      'Milliseconds that a step takes in place of the usual ones, for generations that begin from now on.',
    ),
  hangAfterStep: z
    .int()
    .min(0)
    .max(200)
    .optional()
    .describe(
      'Generations stop after this step and never end by themselves. 0: before the first one. Health is as before.',
    ),
  silent: z
    .boolean()
    .optional()
    .describe(
      'Every request is accepted and gets no answer, also one about health, as from a frozen process.',
    ),
  refuse: z
    .strictObject({ status: z.literal([429, 503]), retryAfterSeconds: z.int().min(0).max(3600) })
    .optional()
    .describe('Generations are refused with this status and Retry-After. Health is as before.'),
})

export type SimulatedFaults = z.output<typeof simulatedFaults>
