/** The floor for relaying: Node hands the runtime's bytes on without looking at them. */
import { createServer, Agent as HttpAgent, request as httpRequest } from 'node:http'
import { pipeline } from 'node:stream'

const upstream = new URL(process.env.UPSTREAM as string)
const agent = new HttpAgent({ keepAlive: true })

const server = createServer((request, response) => {
  const forwarded = httpRequest(
    new URL('/v1/models/model:predict', upstream),
    { agent, method: 'POST', headers: { 'content-type': 'application/json' } },
    (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers)
      pipeline(answer, response, () => {})
    },
  )
  pipeline(request, forwarded, () => {})
})
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address() as { port: number }
  console.log(JSON.stringify({ url: `http://127.0.0.1:${port}` }))
})
