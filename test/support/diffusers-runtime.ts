/** The real Python runtime with the demo model or a tiny random pipeline, made on the spot. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eventually } from './eventually.ts'
import { cleanEnv, ROOT, type Running, start } from './process.ts'

export interface DiffusersRuntime extends Running {
  readonly metricsUrl: string
  /** The current value of one of its counters or gauges. */
  metric(name: string): Promise<number>
}

/** The script that makes a pipeline in a folder. */
const MAKE = {
  icons: (folder: string) => [`${ROOT}model/unpack.py`, '--out', join(folder, 'icons')],
  sdxl: (folder: string) => [`${ROOT}runtime/tests/tiny_pipelines.py`, folder, 'sdxl'],
}

const ENV = {
  PYTHONPATH: `${ROOT}runtime/src`,
  HF_HUB_OFFLINE: '1',
  TORCH_THREADS: '1',
  PYTHONDONTWRITEBYTECODE: '1',
}

/**
 * Makes a pipeline and starts the runtime on it; resolves once it is ready.
 * @throws Error when RUNTIME_PYTHON is not set: `npm test` sets it.
 */
export async function startDiffusersRuntime({
  pipeline,
}: {
  pipeline: keyof typeof MAKE
}): Promise<DiffusersRuntime> {
  const python = process.env.RUNTIME_PYTHON
  if (!python)
    throw new Error('RUNTIME_PYTHON is not set: run these tests by `npm test`, which makes the environment')
  const models = mkdtempSync(join(tmpdir(), 'pipelines-'))
  const made = spawnSync(python, MAKE[pipeline](models), { env: cleanEnv(ENV), encoding: 'utf8' })
  if (made.status !== 0) throw new Error(`the pipeline ${pipeline} could not be made: ${made.stderr}`)
  const running = await start({
    command: python,
    args: ['-m', 'diffusers_runtime'],
    env: { ...ENV, MODEL_ID: join(models, pipeline), PORT: '0', METRICS_PORT: '0' },
  })
  await eventually(async () => {
    const response = await fetch(`${running.url}/v2/health/ready`)
    if (!response.ok) throw new Error(`not ready: ${response.status}\n${JSON.stringify(running.log)}`)
  }, 120_000)
  const metricsUrl = running.log.find(({ metrics_url }) => metrics_url)?.metrics_url as string
  return {
    ...running,
    metricsUrl,
    async metric(name) {
      const text = await (await fetch(`${metricsUrl}/metrics`)).text()
      return Number(text.match(new RegExp(`^${name} (\\S+)$`, 'm'))?.[1])
    },
  }
}
