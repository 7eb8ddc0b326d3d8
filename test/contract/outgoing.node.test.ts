import { outgoingContract } from './outgoing.ts'

outgoingContract('node')
