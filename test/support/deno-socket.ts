/** Run by Deno: lists, calls with progress and cancels over Deno's own WebSocket, and prints what it saw as JSON. */
import { openPlainSocket } from './plain-socket.ts'

const url = Deno.args[0] as string
const plain = await openPlainSocket(url)
const tools = (await plain.request('tools/list')).tools as { name: string }[]
const progress: unknown[] = []
const picture = { prompt: 'a lighthouse', width: 64, height: 64, num_inference_steps: 40, model: 'slow' }
const made = await plain.request(
  'tools/call',
  { name: 'generate_image', arguments: picture },
  { onProgress: ({ message }) => progress.push(message) },
)
plain.send({
  jsonrpc: '2.0',
  id: 77,
  method: 'tools/call',
  params: {
    name: 'generate_image',
    arguments: { ...picture, num_inference_steps: 200 },
    _meta: { progressToken: 77 },
  },
})
await plain.message(({ params }) =>
  /^Step \d+ of 200$/.test(String((params as { message?: string })?.message)),
)
plain.send({ jsonrpc: '2.0', method: 'notifications/cancelled', params: { requestId: 77 } })
await plain.request('ping')
console.log(JSON.stringify({ tools: tools.map(({ name }) => name), made: made.structuredContent, progress }))
plain.socket.close()
await plain.closed
