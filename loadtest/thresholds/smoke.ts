/** Everything works, and nobody is refused. */
import { ALWAYS, type Thresholds } from './always.ts'

export const thresholds: Thresholds = { ...ALWAYS, refused: ['rate==0'], mcp_is_error: ['rate==0'] }
