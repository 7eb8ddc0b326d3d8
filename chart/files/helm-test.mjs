// What `helm test` runs in a pod, on Node or Deno: health, an MCP round trip, a picture. Prints a line per check;
// exit status 1 when one fails.
import { readFileSync } from 'node:fs'
import process from 'node:process'

const base = process.env.SERVER_URL
const tokenFile = process.env.MCP_AUTH_TOKEN_FILE
const authorization = tokenFile ? { Authorization: `Bearer ${readFileSync(tokenFile, 'utf8').trim()}` } : {}
const TIMEOUT_MS = 300_000
const PICTURE = { prompt: 'helm test', width: 64, height: 64, num_inference_steps: 2, seed: 7 }

async function ask(path, { body, headers = {} } = {}) {
  const response = await fetch(`${base}${path}`, {
    method: body ? 'POST' : 'GET',
    headers: { 'Content-Type': 'application/json', ...authorization, ...headers },
    ...(body ? { body: JSON.stringify(body) } : {}),
    signal: AbortSignal.timeout(TIMEOUT_MS),
  })
  const bytes = Buffer.from(await response.arrayBuffer())
  if (!response.ok) throw new Error(`${path} answered ${response.status}: ${bytes.toString().slice(0, 500)}`)
  return { bytes, type: response.headers.get('content-type') ?? '' }
}

async function rpc(method, params) {
  const { bytes, type } = await ask('/mcp', {
    body: { jsonrpc: '2.0', id: 1, method, params },
    headers: { Accept: 'application/json, text/event-stream', 'MCP-Protocol-Version': '2025-11-25' },
  })
  const text = bytes.toString()
  const messages = type.includes('event-stream')
    ? [...text.matchAll(/^data: (.+)$/gm)].map(([, data]) => JSON.parse(data))
    : [JSON.parse(text)]
  const answer = messages.find(({ id }) => id === 1)
  if (!answer?.result) throw new Error(`${method} answered ${text.slice(0, 500)}`)
  return answer.result
}

function isPicture(bytes) {
  const png = bytes.subarray(1, 4).toString() === 'PNG'
  if (!png || bytes.readUInt32BE(16) !== 64 || bytes.readUInt32BE(20) !== 64)
    throw new Error(`not a PNG of 64 by 64: ${bytes.length} bytes`)
}

/** Right after an installation a Service, or a policy for this pod, may take some seconds to come into force. */
async function untilReachable() {
  const deadline = Date.now() + 60_000
  while (Date.now() < deadline) {
    try {
      await fetch(`${base}/health`, { signal: AbortSignal.timeout(5000) })
      return
    } catch (error) {
      console.log(`waiting ${base} cannot be reached yet: ${error.cause?.message ?? error.message}`)
      await new Promise((resolve) => setTimeout(resolve, 2000))
    }
  }
}

const checks = {
  '/health answers': () => ask('/health'),
  '/ready answers': () => ask('/ready'),
  'MCP: initialize, and generate_image is a tool': async () => {
    const { serverInfo } = await rpc('initialize', {
      protocolVersion: '2025-11-25',
      capabilities: {},
      clientInfo: { name: 'helm-test', version: '1' },
    })
    const { tools } = await rpc('tools/list', {})
    if (!tools.some(({ name }) => name === 'generate_image')) throw new Error(`${serverInfo.name} has no generate_image`)
  },
  'MCP: generate_image gives a picture': async () => {
    const result = await rpc('tools/call', { name: 'generate_image', arguments: PICTURE })
    const image = result.content.find(({ type }) => type === 'image')
    if (result.isError || !image) throw new Error(JSON.stringify(result).slice(0, 500))
    isPicture(Buffer.from(image.data, 'base64'))
  },
  'REST: a picture': async () =>
    isPicture((await ask('/api/images', { body: PICTURE, headers: { Accept: 'image/png' } })).bytes),
}

await untilReachable()
let failed = 0
for (const [name, check] of Object.entries(checks)) {
  try {
    await check()
    console.log(`ok      ${name}`)
  } catch (error) {
    failed += 1
    console.log(`FAILED  ${name}: ${error.cause?.message ?? error.message}`)
  }
}
process.exit(failed === 0 ? 0 : 1)
