import { describe } from 'vitest'
import { websocketContract } from './websocket.ts'

describe('WebSocket on deno', () => websocketContract('deno'))
