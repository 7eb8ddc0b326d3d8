/**
 * A runtime that answers every predict with the same picture of about BYTES, 1 MB by default, at next to no cost of its
 * own; with STREAMED=true by an event stream, to those that take one.
 */
import { randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import { encodePng } from '../../src/png.ts'

// Noise does not compress: the file is as large as its pixels.
const SIDE = Math.round(Math.sqrt(Number(process.env.BYTES ?? 1_044_300) / 3))
const png = await encodePng({ width: SIDE, height: SIDE, channels: 3, pixels: randomBytes(SIDE * SIDE * 3) })
const answer = Buffer.from(
  JSON.stringify({
    predictions: [
      {
        model_name: 'fixed',
        prompt: 'a',
        image: { format: 'PNG', b64: Buffer.from(png).toString('base64') },
        seed: 1,
        num_inference_steps: 1,
        inference_ms: 1,
      },
    ],
  }),
)

const events = Buffer.concat([
  Buffer.from('event: progress\ndata: {"instance":0,"step":1,"steps":1}\n\nevent: result\ndata: '),
  answer,
  Buffer.from('\n\n'),
])

const server = createServer((request, response) => {
  request.resume().on('end', () => {
    if (process.env.STREAMED === 'true' && request.headers.accept?.includes('text/event-stream')) {
      response.writeHead(200, { 'content-type': 'text/event-stream' })
      response.end(events)
      return
    }
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': answer.byteLength })
    response.end(answer)
  })
})
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address() as { port: number }
  console.log(JSON.stringify({ url: `http://127.0.0.1:${port}`, bytes: png.byteLength }))
})
