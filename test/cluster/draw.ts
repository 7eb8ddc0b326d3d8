/** Pictures of the server in a namespace, from a pod beside it. */
import { apply, get, kubectl, pod } from './kube.ts'

/** Makes the pod that `draw` asks from. */
export function makeClient(namespace: string): void {
  apply(pod({ namespace, name: 'client', command: ['node', '-e', 'setInterval(() => {}, 1000)'] }))
  kubectl('-n', namespace, 'wait', '--for=condition=Ready', 'pod/client', '--timeout=120s')
}

/** A picture by the server's Service and with the token of the chart's Secret, and what the server says of it. */
export function draw(namespace: string, request: object): { job: object; png: Buffer } {
  const secret = get('-n', namespace, 'secret', 'mcp-server')
  const token = Buffer.from(secret.data.MCP_AUTH_TOKEN, 'base64').toString()
  const script = `
    const base = 'http://mcp-server.${namespace}:8080'
    const headers = { Authorization: 'Bearer ${token}', 'Content-Type': 'application/json' }
    const body = ${JSON.stringify(JSON.stringify(request))}
    const made = await fetch(base + '/api/images', { method: 'POST', headers, body })
    const job = await made.json()
    if (!made.ok) throw new Error(JSON.stringify(job))
    const png = Buffer.from(await (await fetch(base + '/images/' + job.image_id, { headers })).arrayBuffer())
    console.log(JSON.stringify({ job, png: png.toString('base64') }))`
  const { job, png } = JSON.parse(
    kubectl('-n', namespace, 'exec', 'client', '--', 'node', '--input-type=module', '-e', script),
  )
  return { job, png: Buffer.from(png, 'base64') }
}
