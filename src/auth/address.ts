/** The network that a connection comes from, for rate limits. */
import { isIPv6 } from 'node:net'

/**
 * The network that an address is counted as: the IPv4 address itself, or the /64 of an IPv6 address, because one
 * subscriber owns all of it. Every spelling of an address gives the same network.
 */
export function networkOf(address: string): string {
  if (!isIPv6(address)) return address
  const canonical = new URL(`http://[${address.split('%')[0]}]`).hostname.slice(1, -1)
  const mapped = /^::ffff:([0-9a-f]+):([0-9a-f]+)$/.exec(canonical)
  if (mapped) return mapped.slice(1).flatMap(bytesOf).join('.')
  const [head = '', tail = ''] = canonical.split('::')
  const groups = head.split(':').filter(Boolean)
  const zeros = canonical.includes('::') ? 8 - groups.length - tail.split(':').filter(Boolean).length : 0
  const all = [...groups, ...Array.from({ length: zeros }, () => '0'), ...tail.split(':')]
  return `${all.slice(0, 4).join(':')}::/64`
}

function bytesOf(group: string): [number, number] {
  const value = Number.parseInt(group, 16)
  return [value >> 8, value & 255]
}
