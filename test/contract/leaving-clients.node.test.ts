import { describe } from 'vitest'
import { leavingClientsContract } from './leaving-clients.ts'

describe('clients that leave, on node', () => leavingClientsContract('node'))
