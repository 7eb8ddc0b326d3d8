/** Where a connection comes from, as far as it can be counted. */
import { isIPv6 } from 'node:net'

/**
 * What requests from an address are counted by: the IPv4 address, or the /64 network of an IPv6 address, because one
 * subscriber has all of it. Every spelling of an address gives the same.
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
