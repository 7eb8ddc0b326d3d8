/**
 * A KServe runtime that is broken in one way at a time. Sources of its behaviour: KServe's v1 protocol (paths, the
 * shape of predictions, 404 for unknown models, 503 while not ready), this project's runtime (event stream, errors
 * as `{"error"}`), and what runtimes in the field did: stack traces in answers, connections that die with the
 * process, proxies that answer in HTML.
 */
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { encodePng } from '../../src/png.ts'

/** Of the size that every test asks for. */
const black = { width: 64, height: 64, channels: 3, pixels: new Uint8Array(64 * 64 * 3) } as const
const PNG = Buffer.from(await encodePng(black)).toString('base64')
const json = (
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
) => {
  response.writeHead(status, { 'content-type': 'application/json', ...headers })
  response.end(typeof body === 'string' ? body : JSON.stringify(body))
}
const prediction = (b64: string) => ({
  predictions: [
    { model_name: 'broken', prompt: 'a', image: { format: 'PNG', b64 }, seed: 1, num_inference_steps: 1 },
  ],
})
const stream = (response: ServerResponse, text: string) => {
  response.writeHead(200, { 'content-type': 'text/event-stream' })
  response.write(text)
  return response
}
const PROGRESS = 'event: progress\ndata: {"instance":0,"step":1,"steps":4}\n\n'

/** Each way to be broken, by name. */
export const BROKEN = {
  'never answers': () => {},
  'hangs up at once': (response) => response.destroy(),
  'dies half-way through the JSON': (response) => {
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': '1000' })
    response.write('{"predictions":[{"model_name"')
    setTimeout(() => response.destroy(), 20)
  },
  'dies half-way through the stream': (response) => {
    stream(response, PROGRESS)
    setTimeout(() => response.destroy(), 20)
  },
  'ends the stream without a result': (response) => stream(response, PROGRESS).end(),
  'goes silent in the stream': (response) => stream(response, PROGRESS),
  'sends an error event': (response) =>
    stream(
      response,
      'event: error\ndata: {"error":"CUDA exploded at /opt/x.py:1","code":"runtime_failed"}\n\n',
    ).end(),
  'sends an event that is no JSON': (response) =>
    stream(response, 'event: result\ndata: {"predictions": [\n\n').end(),
  'answers no predictions': (response) => json(response, 200, { predictions: [] }),
  'answers garbage': (response) => json(response, 200, '{"predictions": oops'),
  'answers in HTML': (response) => {
    response.writeHead(200, { 'content-type': 'text/html' })
    response.end('<h1>Welcome to nginx</h1>')
  },
  'truncates the PNG': (response) => json(response, 200, prediction(PNG.slice(0, 80))),
  'sends what is no base64': (response) => json(response, 200, prediction('*** not base64 ***')),
  'sends what is no PNG': (response) =>
    json(response, 200, prediction(Buffer.from('GIF89a').toString('base64'))),
  'sends more than fits': (response) => {
    response.writeHead(200, { 'content-type': 'application/json' })
    const chunk = Buffer.alloc(2 ** 20, 32)
    const more = () => {
      while (!response.destroyed && response.write(chunk));
    }
    response.on('drain', more)
    more()
  },
  'answers 500 with a stack trace': (response) =>
    json(response, 500, { error: 'Traceback (most recent call last): File "/srv/secret.py"' }),
  'is full': (response) => json(response, 503, { error: 'full' }, { 'retry-after': '7' }),
  'does not know the model': (response) =>
    json(response, 404, { error: 'Model with name model does not exist.' }),
  'refuses the parameters': (response) =>
    json(response, 400, { error: 'num_inference_steps: got 200,\u0000allowed: 1 to 149' }),
  works: (response) => json(response, 200, prediction(PNG)),
} satisfies Record<string, (response: ServerResponse) => unknown>

export type BrokenWay = keyof typeof BROKEN

/** Starts one on a free port of 127.0.0.1; `way` may be changed while it runs. */
export async function startBrokenRuntime(way: BrokenWay) {
  const runtime = { way, url: '', open: 0, close: () => {} }
  const server = createServer((request, response) => {
    runtime.open += 1
    response.on('close', () => {
      runtime.open -= 1
    })
    request.resume().on('end', () => BROKEN[runtime.way](response))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  runtime.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  runtime.close = () => {
    server.close()
    server.closeAllConnections()
  }
  return runtime
}
