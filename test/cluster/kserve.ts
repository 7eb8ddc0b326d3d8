/** What KServe's controller makes of an InferenceService, for clusters without it. */
import { get, kubectl } from './kube.ts'

/** Named as KServe names what its storage initializer fills and the runtime reads. */
const MODEL = { volume: 'kserve-provision-location', path: '/mnt/models' }

/**
 * The Deployment of an InferenceService and its ServingRuntime in Standard mode, by KServe's merge rules: `predictor`
 * over the runtime's pod fields, `model` over its container. In place of the storage initializer, `copyModel` runs in
 * the runtime's own image and fills `/mnt/models`.
 */
export function kserveDeployment(options: {
  readonly namespace: string
  readonly name: string
  readonly copyModel: readonly string[]
}): object {
  const { namespace, name, copyModel } = options
  const { predictor } = get('-n', namespace, 'inferenceservice', name).spec
  const { minReplicas, maxReplicas, deploymentStrategy, model, ...podOfPredictor } = predictor
  const { containers, volumes = [], ...runtime } = get('-n', namespace, 'servingruntime', model.runtime).spec
  const { supportedModelFormats, protocolVersions, multiModel, ...podOfRuntime } = runtime
  const [container] = containers
  const mount = { name: MODEL.volume, mountPath: MODEL.path }
  const labels = {
    app: `isvc.${name}-predictor`,
    'serving.kserve.io/inferenceservice': name,
    component: 'predictor',
  }
  return {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: `${name}-predictor`, namespace, labels },
    spec: {
      replicas: minReplicas,
      strategy: deploymentStrategy,
      selector: { matchLabels: { app: labels.app } },
      template: {
        metadata: { labels },
        spec: {
          ...podOfRuntime,
          ...podOfPredictor,
          initContainers: [
            {
              name: 'storage-initializer',
              image: container.image,
              imagePullPolicy: container.imagePullPolicy,
              command: copyModel,
              securityContext: container.securityContext,
              volumeMounts: [mount],
            },
          ],
          containers: [
            {
              ...container,
              env: [...(container.env ?? []), ...(model.env ?? [])],
              resources: model.resources ?? container.resources,
              volumeMounts: [...(container.volumeMounts ?? []), { ...mount, readOnly: true }],
            },
          ],
          volumes: [...volumes, { name: MODEL.volume, emptyDir: {} }],
        },
      },
    },
  }
}

/**
 * Makes sure that some node offers a GPU: as a resource that is only counted where there is none. Returns what undoes it.
 */
export function offerGpu(): () => void {
  const nodes: { metadata: { name: string }; status: { capacity: Record<string, string> } }[] =
    get('nodes').items
  if (nodes.some(({ status }) => Number(status.capacity['nvidia.com/gpu'] ?? 0) > 0)) return () => {}
  const patch = (change: object) =>
    kubectl(
      ...['patch', 'node', nodes[0]!.metadata.name, '--subresource=status', '--type=json', '-p'],
      JSON.stringify([{ path: '/status/capacity/nvidia.com~1gpu', ...change }]),
    )
  patch({ op: 'add', value: '1' })
  return () => patch({ op: 'remove' })
}
