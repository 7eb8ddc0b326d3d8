/** What callers see while something happens to the cluster. */
import { readFileSync } from 'node:fs'
import { apply, eventually, kubectl, pod, ROOT } from './kube.ts'

export interface Traffic {
  readonly pictures: number
  readonly handles: number
  readonly longestMs: number
  readonly failures: readonly string[]
}

/** Makes what the callers of a namespace need. They ask its Service mcp-server, with this token. */
export function createTraffic({ namespace, token }: { namespace: string; token: string }) {
  apply({
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: { name: 'traffic', namespace },
    data: { 'traffic.mjs': readFileSync(`${ROOT}test/cluster/traffic.mjs`, 'utf8') },
  })

  return {
    /**
     * What callers saw while something happened, and for some seconds before and after. A step takes 20 ms.
     */
    async under(name: string, { callers = 3, steps = 10 }, happen: () => unknown): Promise<Traffic> {
      const caller = pod({
        namespace,
        name,
        command: ['node', '/traffic/traffic.mjs'],
        env: {
          SERVER_URL: `http://mcp-server.${namespace}:8080`,
          TOKEN: token,
          CALLERS: String(callers),
          STEPS: String(steps),
        },
        configMaps: { traffic: '/traffic' },
      })
      apply(caller)
      await eventually(
        'traffic',
        () => kubectl('-n', namespace, 'logs', name).includes('calling') || undefined,
      )
      await new Promise((resolve) => setTimeout(resolve, 5000))
      await happen()
      await new Promise((resolve) => setTimeout(resolve, 5000))
      kubectl(
        '-n',
        namespace,
        'exec',
        name,
        '--',
        'node',
        '-e',
        "require('fs').writeFileSync('/tmp/stop', '')",
      )
      const done = '--for=jsonpath={.status.phase}=Succeeded'
      kubectl('-n', namespace, 'wait', done, `pod/${name}`, '--timeout=180s')
      const traffic: Traffic = JSON.parse(kubectl('-n', namespace, 'logs', name).trim().split('\n').at(-1)!)
      console.log(`${name}: ${JSON.stringify(traffic)}`)
      return traffic
    },
  }
}
