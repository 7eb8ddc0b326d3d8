/** Every interface by its name, and how the calls of a run are spread over them. */
import exec from 'k6/execution'
import { mcpPicture, olderMcpPicture } from './mcp.ts'
import { measure } from './metrics.ts'
import type { Outcome } from './outcome.ts'
import { restPicture, trinoQuery, xdpDatastores } from './rest.ts'
import type { Interface, Mix } from './settings.ts'
import { websocketMcpPicture, websocketPicture } from './websocket.ts'

const CALLS: Record<Interface, () => Outcome | Promise<Outcome>> = {
  rest: restPicture,
  mcp: mcpPicture,
  'mcp-2025': olderMcpPicture,
  websocket: websocketPicture,
  'websocket-mcp': websocketMcpPicture,
  trino: trinoQuery,
  xdp: xdpDatastores,
}

/** Makes the calls of `mix` (percent), in an order that has every share in every stretch of the run. */
export function callsOf(mix: Mix): () => Promise<void> {
  const shares = Object.entries(mix) as [Interface, number][]
  return () => {
    // The golden ratio's multiples fill the circle evenly, wherever one begins.
    const place = (exec.scenario.iterationInTest * 61.803398875) % 100
    let upTo = 0
    const [by] = shares.find(([, share]) => {
      upTo += share
      return place < upTo
    }) as [Interface, number]
    return measure(by, CALLS[by])
  }
}
