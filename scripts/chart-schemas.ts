/**
 * Strict JSON Schemas for kubeconform: a field that the API does not have is an error. They are made from Kubernetes'
 * own OpenAPI document and from the CRDs of the other kinds that the chart renders. Both come from Go modules or
 * test/chart/crds, so no schema server is needed. Rules on several fields at once (CEL) are left to the API server.
 */
import { spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'
import { parseAllDocuments } from 'yaml'
import { cached } from './cache.ts'
import { Missing } from './missing.ts'
import { hasGo } from './tools.ts'

export const KUBERNETES = 'v1.36.3'
const GATEWAY_API = 'v1.6.3'
const PROMETHEUS_OPERATOR = 'v0.85.0'
const KEDA = 'v2.21.0'
const CRDS = fileURLToPath(new URL('../test/chart/crds', import.meta.url))

type Node = { [key: string]: unknown }

/** Folder of a Go module, downloaded if necessary. @throws Missing without Go. */
function moduleFolder(module: string): string {
  if (!hasGo()) throw new Missing('The Kubernetes schemas come from Go modules, which need Go 1.26 or newer.')
  const { stdout, stderr, status } = spawnSync('go', ['mod', 'download', '-json', module], {
    encoding: 'utf8',
    env: { ...process.env, GOFLAGS: '-mod=mod' },
  })
  if (status !== 0) throw new Error(`go mod download ${module} failed: ${stdout}${stderr}`)
  return JSON.parse(stdout).Dir
}

/** What `-schema-location` of kubeconform takes. Makes the schemas when that is due. */
export function schemaLocation(): string {
  const folder = cached(`schemas/${KUBERNETES}-${GATEWAY_API}-${PROMETHEUS_OPERATOR}-${KEDA}`, writeSchemas)
  return join(folder, '{{.ResourceKind}}{{.KindSuffix}}.json')
}

function writeSchemas(folder: string): void {
  process.stderr.write('Making the schemas of Kubernetes and of custom resources, once ...\n')
  mkdirSync(folder, { recursive: true })
  const write = (name: string, node: unknown) => writeFileSync(join(folder, name), JSON.stringify(node))
  const swagger = `${moduleFolder(`k8s.io/kubernetes@${KUBERNETES}`)}/api/openapi-spec/swagger.json`
  const definitions: Record<string, Node> = JSON.parse(readFileSync(swagger, 'utf8')).definitions
  const closed = Object.entries(definitions).map(([name, node]) => [name, LOOSE[name] ?? close(node)])
  write('_definitions.json', { definitions: Object.fromEntries(closed) })
  for (const node of Object.values(definitions)) {
    const kinds = (node['x-kubernetes-group-version-kind'] ?? []) as Kind[]
    // DeleteOptions and the like belong to every group.
    if (kinds.length === 1) write(fileName(kinds[0]!), close(node, { top: true }))
  }
  for (const { spec } of customResources())
    for (const version of spec.versions) {
      const node = closeCustom(version.schema.openAPIV3Schema)
      Object.assign(node.properties as Node, {
        apiVersion: { type: 'string' },
        kind: { type: 'string' },
        metadata: { $ref: `${DEFINITIONS}io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta` },
      })
      write(fileName({ group: spec.group, version: version.name, kind: spec.names.kind }), node)
    }
}

interface Kind {
  readonly group: string
  readonly version: string
  readonly kind: string
}
/** kubeconform asks by the first part of the group's name. */
const fileName = ({ group, version, kind }: Kind) =>
  `${[kind, group.split('.')[0], version].filter(Boolean).join('-').toLowerCase()}.json`

const DEFINITIONS = '_definitions.json#/definitions/'
/** Strings in the document, where a number is as good. */
const LOOSE: Record<string, Node> = {
  'io.k8s.apimachinery.pkg.util.intstr.IntOrString': { type: ['string', 'integer', 'null'] },
  'io.k8s.apimachinery.pkg.api.resource.Quantity': { type: ['string', 'number', 'null'] },
}

/** A definition of the API as JSON Schema: closed, and null is allowed as the API server allows it. */
function close(node: Node, { top = false } = {}): Node {
  const out: Node = {}
  for (const [key, value] of Object.entries(node)) {
    if (key === 'properties') out[key] = mapValues(value as Record<string, Node>, (child) => close(child))
    else if (key === '$ref') out[key] = (value as string).replace('#/definitions/', DEFINITIONS)
    else if (key === 'type' && typeof value === 'string' && !top) out[key] = [value, 'null']
    else if (key === 'description' || key === 'format' || key.startsWith('x-kubernetes')) continue
    else out[key] = isNode(value) ? close(value) : value
  }
  if (out.properties && !('additionalProperties' in out)) out.additionalProperties = false
  return out
}

/** Rules on combinations, which hold only once the API server has put in the defaults. */
const LEFT_OUT = new Set(
  'allOf anyOf oneOf not description format default example nullable required'.split(' '),
)

/** A CRD's schema as JSON Schema; its fields are null only where it says so. */
function closeCustom(node: Node): Node {
  const out: Node = {}
  const properties = (node.properties ?? {}) as Record<string, Node>
  for (const [key, value] of Object.entries(node)) {
    if (key === 'properties') out[key] = mapValues(properties, closeCustom)
    else if (key === 'items' || key === 'additionalProperties')
      out[key] = isNode(value) ? closeCustom(value) : value
    else if (!LEFT_OUT.has(key) && !key.startsWith('x-kubernetes')) out[key] = value
  }
  const required = ((node.required ?? []) as string[]).filter(
    (name) => !('default' in (properties[name] ?? {})),
  )
  // Draft 4, which kubeconform goes by, allows no empty list.
  if (required.length > 0) out.required = required
  if (node['x-kubernetes-int-or-string']) out.type = ['integer', 'string']
  if (node.nullable && typeof out.type === 'string') out.type = [out.type, 'null']
  if (out.properties && !('additionalProperties' in out) && !node['x-kubernetes-preserve-unknown-fields'])
    out.additionalProperties = false
  return out
}

const isNode = (value: unknown): value is Node =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const mapValues = <T, U>(record: Record<string, T>, change: (value: T) => U): Record<string, U> =>
  Object.fromEntries(Object.entries(record).map(([key, value]) => [key, change(value)]))

interface CustomResource {
  readonly spec: {
    readonly group: string
    readonly names: { readonly kind: string }
    readonly versions: readonly {
      readonly name: string
      readonly schema: { readonly openAPIV3Schema: Node }
    }[]
  }
}

function customResources(): CustomResource[] {
  const gateway = moduleFolder(`sigs.k8s.io/gateway-api@${GATEWAY_API}`)
  const operator = moduleFolder(`github.com/prometheus-operator/prometheus-operator@${PROMETHEUS_OPERATOR}`)
  const operatorCrds = `${operator}/example/prometheus-operator-crd/monitoring.coreos.com`
  const keda = moduleFolder(`github.com/kedacore/keda/v2@${KEDA}`)
  const texts = [
    readFileSync(`${keda}/config/crd/bases/keda.sh_scaledobjects.yaml`, 'utf8'),
    readFileSync(`${gateway}/config/crd/standard/gateway.networking.k8s.io_httproutes.yaml`, 'utf8'),
    readFileSync(`${operatorCrds}_servicemonitors.yaml`, 'utf8'),
    readFileSync(`${operatorCrds}_prometheusrules.yaml`, 'utf8'),
    ...readdirSync(CRDS)
      .filter((name) => name.endsWith('.gz'))
      .map((name) => gunzipSync(readFileSync(join(CRDS, name))).toString()),
  ]
  return texts.flatMap((text) => parseAllDocuments(text).map((document) => document.toJS())).filter(Boolean)
}
