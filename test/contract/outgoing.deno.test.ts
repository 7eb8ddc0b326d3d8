import { outgoingContract } from './outgoing.ts'

outgoingContract('deno')
