/** The verbs of the Makefile: `tsx scripts/deploy/main.ts VERB [--dry-run]`, the rest by environment variables. */
import { settingsFrom } from '../../loadtest/runner/session.ts'
import { checkServices, logs, testConnectivity, testIntegration } from './checks.ts'
import { deployBoth, deployServer, manifests, undeploy } from './deploy.ts'
import { environmentNamed } from './environments.ts'
import { buildImages } from './images.ts'
import { Advice, connect } from './kube.ts'
import { loadTest, removeLoadTest } from './load-test.ts'

/** make exports what nobody set as an empty text. */
const setting = (name: string, fallback = '') => process.env[name] || fallback
const ENV = setting('ENV', 'dev')
const HELM_ARGS = setting('HELM_ARGS')
const TIMEOUT = setting('TIMEOUT', '600')
const REGISTRY = setting('REGISTRY')
const ONLY = setting('ONLY')
const FOLLOW = setting('FOLLOW')
const RUNTIME = setting('RUNTIME')
const RUNTIME_MODE = setting('RUNTIME_MODE')
const SCENARIO = setting('SCENARIO', 'smoke')
const SETTINGS = setting('SETTINGS')
const K6_IMAGE = setting('K6_IMAGE')
const OUT = setting('OUT')
const [verb = '', ...flags] = process.argv.slice(2)
const dryRun = flags.includes('--dry-run')

function runtimeMode(): 'kserve' | 'deployment' | undefined {
  if (!RUNTIME_MODE) return undefined
  if (RUNTIME_MODE === 'kserve' || RUNTIME_MODE === 'deployment') return RUNTIME_MODE
  throw new Advice(`RUNTIME_MODE=${RUNTIME_MODE}: there are kserve and deployment.`)
}

function deployOptions() {
  if (!/^\d+$/.test(TIMEOUT)) throw new Advice(`TIMEOUT=${TIMEOUT}: a number of seconds.`)
  return { helmArgs: HELM_ARGS.split(/\s+/).filter(Boolean), timeoutSeconds: Number(TIMEOUT) }
}

const VERBS: Record<string, () => unknown> = {
  deploy: () => deployServer(connect({ dryRun }), environmentNamed(ENV), deployOptions()),
  'deploy-with-diffusers': () => {
    const mode = runtimeMode()
    return deployBoth(connect({ dryRun }), environmentNamed(ENV), {
      ...deployOptions(),
      ...(mode ? { mode } : {}),
    })
  },
  undeploy: () => undeploy(connect({ dryRun }), environmentNamed(ENV), { runtime: RUNTIME === '1' }),
  manifests: () => manifests(environmentNamed(ENV), deployOptions()),
  'test-connectivity': () => testConnectivity(connect({ dryRun: false }), environmentNamed(ENV)),
  'test-integration': () => testIntegration(connect({ dryRun: false }), environmentNamed(ENV)),
  'check-services': () => checkServices(connect({ dryRun: false }), environmentNamed(ENV)),
  logs: () => {
    process.exitCode = logs(connect({ dryRun: false }), environmentNamed(ENV), { follow: FOLLOW === '1' })
  },
  'load-test': async () => {
    const [kube, environment] = [connect({ dryRun }), environmentNamed(ENV)]
    if (SCENARIO === 'none') return removeLoadTest(kube, environment.namespace)
    process.exitCode = await loadTest(kube, environment, {
      scenario: SCENARIO,
      settings: settingsFrom(process.env, SETTINGS.split(/\s+/).filter(Boolean)),
      ...{ image: K6_IMAGE, out: OUT },
    })
  },
  images: () =>
    buildImages({ registry: REGISTRY, only: ONLY.split(',').filter(Boolean), push: false, dryRun }),
  'push-images': () =>
    buildImages({ registry: REGISTRY, only: ONLY.split(',').filter(Boolean), push: true, dryRun }),
}

try {
  const run = VERBS[verb]
  const unknown = flags.find((flag) => flag !== '--dry-run')
  if (!run)
    throw new Advice(`There is no verb ${JSON.stringify(verb)}.`, `one of: ${Object.keys(VERBS).join(', ')}`)
  if (unknown) throw new Advice(`Unknown argument ${unknown}; there is --dry-run.`)
  await run()
} catch (error) {
  process.stderr.write(`\n${error instanceof Advice ? error.message : (error as Error).stack}\n`)
  process.exit(1)
}
