/** One call after the other: is it there, does every interface work? */
import { setting } from '../lib/environment.ts'
import { queueWatch } from '../lib/queue.ts'
import type { Mix } from '../lib/settings.ts'

export const MIX: Mix = setting('MIX') ?? {
  rest: 20,
  mcp: 20,
  'mcp-2025': 20,
  websocket: 20,
  'websocket-mcp': 20,
}
const SECONDS = setting('PHASE_SECONDS') ?? 30

export const scenarios = {
  smoke: { executor: 'constant-vus' as const, vus: 1, duration: `${SECONDS}s`, gracefulStop: '3600s' },
  watch: queueWatch(SECONDS),
}
