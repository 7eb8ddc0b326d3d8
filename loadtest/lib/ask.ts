/** What is asked for: the same words in every interface. */
import exec from 'k6/execution'
import { setting } from './environment.ts'

export const TIMEOUT_SECONDS = setting('TIMEOUT_SECONDS')
/** The server answers by itself within the deadline; what comes later is a failure. */
export const REQUEST_TIMEOUT = `${TIMEOUT_SECONDS + 10}s`
/** How long one request for an unfinished picture waits. Big hosts and proxies cut at 45 s. */
export const WAIT_SECONDS = Math.min(40, TIMEOUT_SECONDS)

const BASE_URLS = setting('BASE_URL')

/** The replica whose turn it is. */
export const baseUrl = () => BASE_URLS[exec.scenario.iterationInTest % BASE_URLS.length] as string
/** The one that is asked about the queue, which all replicas know. */
export const FIRST_URL = BASE_URLS[0] as string

const COMMON = Object.fromEntries(
  Object.entries({
    model: setting('MODEL'),
    width: setting('WIDTH'),
    height: setting('HEIGHT'),
    num_inference_steps: setting('STEPS'),
  }).filter(([, value]) => value !== undefined),
)

/** Arguments of a generation that no other call shares: without a seed nothing is joined or found in the store. */
export const imageRequest = () => ({
  prompt: `load test, picture ${exec.scenario.iterationInTest}`,
  ...COMMON,
})
