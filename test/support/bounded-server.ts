/** Run on both engines: the listener of the server, with bounds so short that a test can wait for them. */
import { listen } from '../../src/listener.ts'

const say = (message: object) => process.stdout.write(`${JSON.stringify(message)}\n`)

const { port } = await listen({
  hostname: '127.0.0.1',
  port: 0,
  bounds: JSON.parse(process.env.BOUNDS ?? '{}'),
  async fetch(request) {
    const { pathname } = new URL(request.url)
    request.signal.addEventListener('abort', () => say({ event: 'aborted', path: pathname }))
    switch (pathname) {
      case '/large':
        return new Response(new Uint8Array(40_000_000))
      case '/stream':
        return new Response(
          new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(100_000)) }),
        )
      case '/chunks': {
        // Chunks larger than a slice, each of its own byte.
        let sent = 0
        return new Response(
          new ReadableStream({
            pull(controller) {
              sent += 1
              if (sent > 5) controller.close()
              else controller.enqueue(new Uint8Array(3_000_001).fill(sent))
            },
          }),
        )
      }
      case '/never':
        return await new Promise<Response>(() => {})
      default:
        return new Response(String((await request.arrayBuffer()).byteLength))
    }
  },
})
say({ event: 'listening', url: `http://127.0.0.1:${port}` })
