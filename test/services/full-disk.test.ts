/** A folder of pictures on a disk that is full, filled by others, or read-only: a small tmpfs. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { eventually } from '../support/eventually.ts'
import { type Engine, type Running, startServer } from '../support/process.ts'
import { call } from '../support/replicas.ts'

const DISK = '2m'
/** More than ten of them do not fit. */
const PICTURE_BYTES = 200_000

const mount = (...args: string[]) => spawnSync('mount', args, { encoding: 'utf8' })

/** Why nothing can be mounted here; undefined where it can. */
const forbidden = (() => {
  if (process.platform !== 'linux') return 'tmpfs is of Linux'
  const folder = mkdtempSync(join(tmpdir(), 'mount-'))
  const { status, stderr, error } = mount('-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', folder)
  if (status === 0) spawnSync('umount', [folder])
  rmSync(folder, { recursive: true })
  return status === 0 ? undefined : `mount is not allowed: ${error?.message ?? stderr.trim()}`
})()
if (forbidden) console.log(`Skipped: pictures on a full disk. ${forbidden}`)

describe.skipIf(forbidden !== undefined).each<Engine>(['node', 'deno'])('on %s', (engine) => {
  let disk: string
  let server: Running

  beforeAll(async () => {
    disk = mkdtempSync(join(tmpdir(), 'disk-'))
    expect(mount('-t', 'tmpfs', '-o', `size=${DISK}`, 'tmpfs', disk).stderr).toBe('')
    server = await startServer(engine, {
      IMAGES_BACKEND: 'filesystem',
      IMAGES_DIR: join(disk, 'pictures'),
      DRAIN_DELAY_MS: '0',
      RUNTIMES: JSON.stringify([
        { name: 'sim', kind: 'simulated', options: { msPerStep: 10, imageBytes: PICTURE_BYTES } },
        { name: 'slow', kind: 'simulated', options: { msPerStep: 100, imageBytes: PICTURE_BYTES } },
      ]),
    })
  })
  afterAll(async () => {
    await server?.stop()
    spawnSync('umount', [disk])
    rmSync(disk, { recursive: true, force: true })
  })
  afterEach(() => {
    mount('-o', 'remount,rw', disk)
    rmSync(join(disk, 'ballast'), { force: true })
  })

  const ask = (model = 'sim'): Promise<object> =>
    call(server, '/api/images', {
      body: { prompt: 'a disk', model, width: 64, height: 64, num_inference_steps: 20 },
      headers: { prefer: 'wait=60' },
    })
  const ready = async () => (await fetch(`${server.url}/ready`)).status
  const pictures = () => readdirSync(join(disk, 'pictures')).filter((name) => name.endsWith('.image'))
  /** Takes all space that is left. */
  const fill = () => {
    const { bavail, bsize } = statfsSync(disk)
    writeFileSync(join(disk, 'ballast'), Buffer.alloc(bavail * bsize))
  }
  /** Leaves room for a small file, and for no picture. */
  const nearlyFill = () => {
    const { bavail, bsize } = statfsSync(disk)
    writeFileSync(join(disk, 'ballast'), Buffer.alloc(bavail * bsize - PICTURE_BYTES / 4))
  }
  const empty = () => {
    for (const name of readdirSync(join(disk, 'pictures')))
      rmSync(join(disk, 'pictures', name), { recursive: true })
  }
  const admitted = async () => {
    const { targets } = (await call(server, '/api/queue')) as unknown as { targets: { admitted: number }[] }
    return targets.reduce((sum, target) => sum + target.admitted, 0)
  }

  test('full of pictures: the oldest make room', async () => {
    for (let index = 0; index < 14; index += 1)
      expect(await ask()).toMatchObject({ status: 200, state: 'succeeded' })
    expect(pictures().length).toBeLessThan(11)
    expect(await ready()).toBe(200)
  })

  test.each<[string, () => void, RegExp]>([
    ['filled by others', fill, /picture store is full/],
    ['nearly filled by others', nearlyFill, /picture store is full/],
    ['read-only', () => void mount('-o', 'remount,ro', disk), /picture store cannot be written to/],
  ])('%s: refused before anything is drawn, until it is over', async (_, spoil, reason) => {
    empty()
    spoil()
    await eventually(async () => expect(await ready()).toBe(503))
    const before = await admitted()
    expect(await ask()).toMatchObject({
      status: 503,
      code: 'overloaded',
      detail: expect.stringMatching(reason),
    })
    expect(await admitted()).toBe(before)
    expect(server.log).toContainEqual(
      expect.objectContaining({
        event: 'the picture store takes no pictures',
        message: expect.stringMatching(reason),
      }),
    )
    mount('-o', 'remount,rw', disk)
    rmSync(join(disk, 'ballast'), { force: true })
    await eventually(async () => expect(await ready()).toBe(200))
    expect(await ask()).toMatchObject({ status: 200, state: 'succeeded' })
    // Nothing is left of the checks.
    await eventually(() =>
      expect(readdirSync(join(disk, 'pictures')).filter((name) => name.endsWith('.partial'))).toEqual([]),
    )
  })

  test('filled while a picture is drawn: it is tried again, and kept when there is room', async () => {
    empty()
    const drawn = ask('slow')
    await eventually(async () => {
      const { targets } = (await call(server, '/api/queue')) as unknown as { targets: { running: number }[] }
      expect(targets[1]).toMatchObject({ running: 1 })
    })
    const told = () =>
      server.log.filter(({ event }) => event === 'the picture store takes no pictures').length
    const before = told()
    fill()
    await eventually(() => expect(told()).toBeGreaterThan(before))
    rmSync(join(disk, 'ballast'), { force: true })
    expect(await drawn).toMatchObject({ status: 200, state: 'succeeded' })
  })

  test('filled while a picture is drawn, for good: the job says why it failed', async () => {
    await eventually(async () => expect(await ready()).toBe(200))
    empty()
    const drawn = ask('slow')
    await eventually(async () => {
      const { targets } = (await call(server, '/api/queue')) as unknown as { targets: { running: number }[] }
      expect(targets[1]).toMatchObject({ running: 1 })
    })
    fill()
    expect(await drawn).toMatchObject({
      status: 500,
      detail: expect.stringMatching(/disk of the image store is full/),
    })
  })
})
