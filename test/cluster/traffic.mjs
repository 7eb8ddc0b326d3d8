// Callers for tests on a cluster, run in a pod: each makes a picture, waits for it, follows the handle that a stopping
// server gives, fetches the PNG, and begins again, until /tmp/stop exists. The last line is what happened, as JSON.
import { existsSync } from 'node:fs'

const { SERVER_URL, TOKEN, CALLERS = '3', STEPS = '10' } = process.env
const headers = { Authorization: `Bearer ${TOKEN}`, 'Content-Type': 'application/json' }
const failures = []
let pictures = 0
let handles = 0
let longestMs = 0

async function ask(path, options = {}) {
  const response = await fetch(`${SERVER_URL}${path}`, {
    ...options,
    headers: { ...headers, ...options.headers },
    signal: AbortSignal.timeout(90_000),
  })
  if (!response.ok)
    throw new Error(`${path} answered ${response.status}: ${(await response.text()).slice(0, 300)}`)
  return response
}

async function picture(n) {
  const body = JSON.stringify({
    prompt: `picture ${n}`,
    width: 64,
    height: 64,
    num_inference_steps: Number(STEPS),
    seed: n,
  })
  let response = await ask('/api/images', { method: 'POST', body, headers: { Prefer: 'wait=30' } })
  let job = await response.json()
  while (job.state === 'queued' || job.state === 'running') {
    handles += 1
    response = await ask(`/api/jobs/${job.job_id}`, { headers: { Prefer: 'wait=30' } })
    job = await response.json()
  }
  if (job.state !== 'succeeded') throw new Error(`job ended as ${JSON.stringify(job)}`)
  const png = Buffer.from(await (await ask(`/images/${job.image_id}`)).arrayBuffer())
  if (png.subarray(1, 4).toString() !== 'PNG') throw new Error(`no PNG: ${png.length} bytes`)
  pictures += 1
}

let n = Date.now() % 1_000_000_000
async function caller() {
  while (!existsSync('/tmp/stop')) {
    const started = Date.now()
    try {
      await picture(n++)
    } catch (error) {
      failures.push(`${new Date().toISOString()} ${error.message} ${error.cause?.code ?? ''}`)
      await new Promise((resolve) => setTimeout(resolve, 500))
    }
    longestMs = Math.max(longestMs, Date.now() - started)
  }
}

console.log('calling')
await Promise.all(Array.from({ length: Number(CALLERS) }, caller))
console.log(JSON.stringify({ pictures, handles, longestMs, failures }))
