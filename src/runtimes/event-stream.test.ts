import { describe, expect, test } from 'vitest'
import { createEventStreamReader } from './event-stream.ts'

/** What a stream says when it arrives in chunks of `chunkBytes`. */
function read(stream: string | Buffer, { chunkBytes = Number.POSITIVE_INFINITY } = {}): [string, string][] {
  const events: [string, string][] = []
  const reader = createEventStreamReader({
    onEvent: ({ event, data }) => events.push([event, Buffer.concat(data).toString()]),
  })
  const bytes = Buffer.from(stream)
  for (let at = 0; at < bytes.length; at += chunkBytes) reader.feed(bytes.subarray(at, at + chunkBytes))
  return events
}

describe('an event stream', () => {
  test.each<[string, string, [string, string][]]>([
    ['an event with a name', 'event: progress\ndata: {}\n\n', [['progress', '{}']]],
    ['an event without a name', 'data: a\n\n', [['message', 'a']]],
    [
      'a name that does not outlive its event',
      'event: a\ndata: 1\n\ndata: 2\n\n',
      [
        ['a', '1'],
        ['message', '2'],
      ],
    ],
    ['lines that end in CRLF', 'event: a\r\ndata: 1\r\n\r\n', [['a', '1']]],
    [
      'lines that end in CR',
      'event: a\rdata: 1\r\rdata: 2\r\r',
      [
        ['a', '1'],
        ['message', '2'],
      ],
    ],
    ['one space after the colon goes, the next stays', 'data:a\ndata:  b\n\n', [['message', 'a\n b']]],
    ['several data lines', 'data: a\ndata\ndata: b\n\n', [['message', 'a\n\nb']]],
    [
      'comments, id, retry and unknown fields',
      ': keep-alive\n\nid: 1\nretry: 5\nx: y\ndata: a\n\n',
      [['message', 'a']],
    ],
    ['an event without data', 'event: a\n\n', []],
    ['an event that the end cut off', 'data: a\n\ndata: b\n', [['message', 'a']]],
    ['a byte order mark', '\ufeffdata: a\n\n', [['message', 'a']]],
    ['text of many bytes', 'event: größe\ndata: 東京\n\n', [['größe', '東京']]],
  ])('%s', (_, stream, events) => {
    expect(read(stream)).toEqual(events)
    // However the network cuts it.
    for (const chunkBytes of [1, 2, 3, 5]) expect(read(stream, { chunkBytes })).toEqual(events)
  })

  test('a line of 22 MB in chunks of 64 KB costs no more than its bytes', () => {
    const line = Buffer.concat([Buffer.from('data: '), Buffer.alloc(22 * 2 ** 20, 'A'), Buffer.from('\n\n')])
    let bytes = 0
    const reader = createEventStreamReader({
      onEvent: ({ data }) => {
        bytes = Buffer.concat(data).length
      },
    })
    const startedAt = process.cpuUsage()
    for (let at = 0; at < line.length; at += 65_536) reader.feed(line.subarray(at, at + 65_536))
    const { user, system } = process.cpuUsage(startedAt)
    expect(bytes).toBe(22 * 2 ** 20)
    // About 20 ms; joining at every chunk would copy 4 GB.
    expect((user + system) / 1000).toBeLessThan(500)
  })
})
