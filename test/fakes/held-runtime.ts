/**
 * A KServe runtime whose generations go on until the test ends them: what has to happen meanwhile happens however slow
 * the machine is. Sources of its behaviour: KServe's v1 protocol (paths, the shape of predictions) and this project's
 * runtime, which stops when the connection closes; the simulated runtime counts the same in its /stats.
 */
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { encodePng } from '../../src/png.ts'

/** A black picture of the asked size. */
async function predictionFor(body: string): Promise<string> {
  const { width = 64, height = 64 } = JSON.parse(body).instances[0]
  const png = await encodePng({ width, height, channels: 3, pixels: new Uint8Array(width * height * 3) })
  const image = { format: 'PNG', b64: Buffer.from(png).toString('base64') }
  return JSON.stringify({
    predictions: [{ model_name: 'held', prompt: 'a', image, seed: 1, num_inference_steps: 1 }],
  })
}

export interface HeldRuntime {
  readonly url: string
  /** Counts as in the simulated runtime's /stats. */
  readonly stats: { started: number; finished: number; aborted: number; running: number; peak: number }
  /** Ends what is held with a picture, and from now on every generation as soon as it comes. */
  release(): void
  stop(): Promise<void>
}

/** Starts one on a free port of 127.0.0.1, under any model name. */
export async function startHeldRuntime(): Promise<HeldRuntime> {
  const stats = { started: 0, finished: 0, aborted: 0, running: 0, peak: 0 }
  const held = new Map<ServerResponse, string>()
  let isOpen = false
  const answer = (response: ServerResponse, body: string) =>
    response.writeHead(200, { 'content-type': 'application/json' }).end(body)
  const finish = (response: ServerResponse, body: string) => {
    held.delete(response)
    stats.finished += 1
    stats.running -= 1
    void predictionFor(body).then((prediction) => answer(response, prediction))
  }
  const server = createServer((request, response) => {
    let body = ''
    request.on('data', (chunk) => {
      body += chunk
    })
    request.on('end', () => {
      if (request.url === '/stats') return void answer(response, JSON.stringify(stats))
      if (request.method !== 'POST') return void answer(response, '{"name":"model","ready":true}')
      stats.started += 1
      stats.running += 1
      stats.peak = Math.max(stats.peak, stats.running)
      held.set(response, body)
      response.on('close', () => {
        if (!held.delete(response)) return
        stats.aborted += 1
        stats.running -= 1
      })
      if (isOpen) finish(response, body)
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    stats,
    release() {
      isOpen = true
      for (const [response, body] of held) finish(response, body)
    },
    async stop() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
