/** Pods of an InferenceService that draw placeholders: everything else of them is as the chart and KServe make it. */
import { kserveDeployment } from './kserve.ts'
import { SERVER_IMAGE, SIMULATED_RUNTIME } from './kube.ts'

/** The Deployment of an InferenceService with the simulated runtime in its container, one picture at a time per pod. */
export function simulatedKServe(options: { readonly namespace: string; readonly name: string }): object {
  // biome-ignore lint/suspicious/noExplicitAny: a manifest
  const deployment: any = kserveDeployment({ ...options, copyModel: [] })
  const { spec } = deployment.spec.template
  spec.initContainers = []
  Object.assign(spec.containers[0], {
    image: SERVER_IMAGE,
    command: SIMULATED_RUNTIME.command,
    env: [
      ...Object.entries(SIMULATED_RUNTIME.env).map(([name, value]) => ({ name, value })),
      { name: 'SIMULATED_OPTIONS', value: JSON.stringify({ concurrency: 1, queue: 0 }) },
    ],
    resources: { requests: { cpu: '20m', memory: '64Mi' }, limits: { memory: '256Mi' } },
    // The simulated runtime has not all routes of KServe's v2, and loads nothing.
    startupProbe: undefined,
    readinessProbe: { httpGet: { path: '/v2/health/ready', port: 'http' }, periodSeconds: 1 },
  })
  return deployment
}
