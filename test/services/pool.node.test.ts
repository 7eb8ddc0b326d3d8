import { alone, describePool } from './pool.ts'

describePool(alone('node'), { firstSteps: true })
