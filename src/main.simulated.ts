/** The simulated runtime as a separate process, for tests, load tests and first steps without a model. */
import { serve } from '@hono/node-server'
import { z } from 'zod'
import { createSimulatedServer } from './runtimes/simulated/server.ts'
import { simulatedOptions } from './runtimes/simulated/simulated.ts'
import { onStopSignal } from './shutdown.ts'
import { exitWith } from './start.ts'

const environment = z.object({
  HOST: z.string().min(1).default('127.0.0.1'),
  PORT: z
    .string()
    .regex(/^\d{1,5}$/, 'must be a port number')
    .default('8081'),
  MODEL_NAME: z.string().min(1).max(200).default('model'),
  SIMULATED_OPTIONS: z
    .string()
    .default('{}')
    .transform((text, context) => {
      try {
        return JSON.parse(text)
      } catch (error) {
        context.addIssue({ code: 'custom', message: `must be JSON: ${(error as Error).message}` })
        return z.NEVER
      }
    })
    .pipe(simulatedOptions),
  FAULTS_BY_REQUEST: z.stringbool().default(false),
})

const parsed = environment.safeParse(process.env)
if (!parsed.success) {
  const lines = parsed.error.issues.map(({ path, message }) => `  ${path.join('.')}: ${message}`)
  process.stderr.write(`The configuration of the simulated runtime has problems:\n${lines.join('\n')}\n`)
  process.exit(2)
}
const { HOST: hostname, PORT, MODEL_NAME: modelName, SIMULATED_OPTIONS, FAULTS_BY_REQUEST } = parsed.data

const app = createSimulatedServer({
  ...SIMULATED_OPTIONS,
  ...{ modelName, faultsByRequest: FAULTS_BY_REQUEST },
})
const server = serve({ fetch: app.fetch, hostname, port: Number(PORT) }, ({ port }) =>
  process.stdout.write(`${JSON.stringify({ event: 'listening', url: `http://${hostname}:${port}` })}\n`),
)
server.on('error', (error) => exitWith(`Cannot listen on ${hostname}:${PORT}: ${error.message}`))
onStopSignal(async () => {
  server.close()
})
