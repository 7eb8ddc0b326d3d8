import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { imageStoreContract } from '../../../test/backends/images.ts'
import { eventually } from '../../../test/support/eventually.ts'
import { HOUR_MS, makeImage, makePng, NOON } from '../../../test/support/pictures.ts'
import { createFilesystemImages } from './filesystem.ts'

/** The disk as seen by the store, with faults and with another process that acts at a chosen moment. */
const disk = vi.hoisted(() => ({
  /** Code of the error with which writing a file fails. */
  failure: undefined as string | undefined,
  /** Runs once, before the next call of that name. */
  before: undefined as { call: string; run: () => Promise<unknown> } | undefined,
}))

vi.mock('node:fs/promises', async (importOriginal) => {
  const real = await importOriginal<typeof import('node:fs/promises')>()
  const open: typeof real.open = async (path, flags, mode) => {
    const file = await real.open(path, flags, mode)
    if (disk.failure && flags === 'wx')
      file.sync = () => Promise.reject(Object.assign(new Error('write failed'), { code: disk.failure }))
    return file
  }
  const watched = <Args extends unknown[], T>(call: string, act: (...args: Args) => Promise<T>) => {
    return async (...args: Args): Promise<T> => {
      const { before } = disk
      if (before?.call === call) {
        disk.before = undefined
        await before.run()
      }
      return act(...args)
    }
  }
  const namesIn = async (...args: Parameters<typeof real.opendir>) => {
    const entries: unknown[] = []
    for await (const entry of await real.opendir(...args)) entries.push(entry)
    // The names are read: what changes from here on is not among them.
    await watched('opendir', async () => {})()
    return entries
  }
  return {
    ...real,
    opendir: namesIn,
    open: watched('open', open),
    mkdir: watched('mkdir', real.mkdir),
    rename: watched('rename', real.rename),
  }
})

let base: string
beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), 'images-test-'))
})
afterAll(() => rm(base, { recursive: true }))

let folders = 0
const newFolder = () => join(base, `store-${++folders}`)

imageStoreContract('the filesystem store', (options) =>
  createFilesystemImages({ ...options, directory: newFolder() }),
)

describe('the filesystem store', () => {
  const owner = makeImage(Buffer.alloc(0)).record.owner
  let directory: string
  let png: Buffer
  let now: number

  const openStore = (maxBytes = 2 ** 20) => createFilesystemImages({ directory, maxBytes, now: () => now })
  const idsIn = async (store: Awaited<ReturnType<typeof openStore>>) =>
    (await store.list(owner, { limit: 100 })).records.map(({ id }) => id)

  beforeAll(async () => {
    png = await makePng({ width: 64, height: 64 })
  })
  beforeEach(() => {
    directory = newFolder()
    now = NOON
  })
  afterEach(() => {
    disk.failure = undefined
    disk.before = undefined
  })

  describe('after a restart', () => {
    it('still has its pictures', async () => {
      const image = makeImage(png)
      await (await openStore()).put(image)
      const reopened = await openStore()
      expect(await reopened.get('picture-1')).toEqual(image)
      expect(await idsIn(reopened)).toEqual(['picture-1'])
    })

    it('counts what was there, by the space it takes on disk', async () => {
      // Three blocks of 4096 each: the folder, the picture, the record.
      const first = await openStore(3 * 12_288)
      const at = (minutes: number) => new Date(NOON + minutes * 60_000).toISOString()
      await first.put(makeImage(png, { id: 'b', created_at: at(2) }))
      await first.put(makeImage(png, { id: 'a', created_at: at(1) }))
      await first.put(makeImage(png, { id: 'c', created_at: at(3) }))
      const second = await openStore(3 * 12_288)
      // Reads the folder.
      await second.sweep()
      await second.put(makeImage(png, { id: 'd', created_at: at(4) }))
      expect(await idsIn(second)).toEqual(['d', 'c', 'b'])
      expect(await readdir(directory)).toHaveLength(3)
    })

    it('frees what expired meanwhile', async () => {
      await (await openStore()).put(makeImage(png))
      now = NOON + HOUR_MS
      await openStore()
      await eventually(async () => expect(await readdir(directory)).toEqual([]))
    })
  })

  describe('with another process on the same folder', () => {
    it('lets one first writer win', async () => {
      const stores = await Promise.all([openStore(), openStore(), openStore(), openStore()])
      for (let round = 0; round < 5; round += 1) {
        const id = `picture-${round}`
        const answers = await Promise.all(
          stores.map((store, seed) => store.put(makeImage(png, { id, seed }))),
        )
        const kept = await stores[0]!.head(id)
        expect(answers).toEqual([kept, kept, kept, kept])
      }
      expect((await readdir(directory)).sort()).toEqual(
        [0, 1, 2, 3, 4].map((round) => `picture-${round}.image`),
      )
    })

    it.each(['mkdir', 'open', 'rename'])(
      'lets it win when it is done before the %s of this one',
      async (call) => {
        const [one, other] = [await openStore(), await openStore()]
        const first = makeImage(png, { seed: 1 })
        disk.before = { call, run: () => other.put(first) }
        expect(await one.put(makeImage(png, { seed: 2 }))).toEqual(first.record)
        expect(await one.get('picture-1')).toEqual(first)
        expect(await readdir(directory)).toEqual(['picture-1.image'])
      },
    )

    it('does not sweep what the other put in the place of an expired picture', async () => {
      const [one, other] = [await openStore(), await openStore()]
      await one.put(makeImage(png))
      now = NOON + HOUR_MS
      await other.put(makeImage(png, { expires_at: new Date(now + HOUR_MS).toISOString() }))
      expect(await one.sweep()).toBe(0)
      expect(await other.get('picture-1')).toBeDefined()
    })

    it('serves what the other put at once, and lists it after its next sweep', async () => {
      const [one, other] = [await openStore(), await openStore()]
      expect(await idsIn(other)).toEqual([])
      await one.put(makeImage(png))
      expect(await other.get('picture-1')).toBeDefined()
      await other.sweep()
      expect(await idsIn(other)).toEqual(['picture-1'])
    })

    it('lists at once no more what the other deleted', async () => {
      const [one, other] = [await openStore(), await openStore()]
      for (const id of ['a', 'b', 'c']) await one.put(makeImage(png, { id }))
      await other.delete('b')
      expect(await one.get('b')).toBeUndefined()
      // The page is full all the same.
      expect((await one.list(owner, { limit: 2 })).records.map(({ id }) => id)).toEqual(['c', 'a'])
    })

    it('exceeds the bound by no more than the other stored since its last sweep, which removes that', async () => {
      const [one, other] = [await openStore(2 * 12_288), await openStore(2 * 12_288)]
      const at = (minutes: number) => new Date(NOON + minutes * 60_000).toISOString()
      await one.put(makeImage(png, { id: 'a', created_at: at(1) }))
      await other.put(makeImage(png, { id: 'b', created_at: at(2) }))
      await one.put(makeImage(png, { id: 'c', created_at: at(3) }))
      expect(await readdir(directory)).toHaveLength(3)
      await one.sweep()
      expect(await idsIn(one)).toEqual(['c', 'b'])
      await other.delete('c')
      await one.sweep()
      await one.put(makeImage(png, { id: 'd', created_at: at(4) }))
      expect(await idsIn(one)).toEqual(['d', 'b'])
    })

    it('knows after a sweep what changed while it read the folder', async () => {
      const [one, other] = [await openStore(), await openStore()]
      for (const id of ['a', 'b', 'c']) await one.put(makeImage(png, { id }))
      await other.sweep()
      disk.before = {
        call: 'opendir',
        async run() {
          await other.delete('b')
          await other.put(makeImage(png, { id: 'd' }))
        },
      }
      await other.sweep()
      expect(await idsIn(other)).toEqual(['d', 'c', 'a'])
    })
  })

  describe('after a crash in the middle of a write', () => {
    const partial = '01234567-89ab-cdef-0123-456789abcdef.partial'
    const leave = async (modified: number) => {
      const path = join(directory, partial)
      await mkdir(path, { recursive: true })
      await writeFile(join(path, 'picture.png'), png.subarray(0, 20))
      await utimes(path, modified / 1000, modified / 1000)
    }

    it('shows no half picture', async () => {
      await leave(NOON)
      const store = await openStore()
      expect(await idsIn(store)).toEqual([])
    })

    it('sweeps the leftovers, but not those that another process may still be writing', async () => {
      await leave(NOON)
      const store = await openStore()
      now = NOON + 10 * 60_000
      await store.sweep()
      expect(await readdir(directory)).toEqual([partial])
      now += 1
      await store.sweep()
      expect(await readdir(directory)).toEqual([])
    })
  })

  describe('with a picture damaged on disk', () => {
    const damages: [string, (folder: string) => Promise<void>][] = [
      ['a cut picture', (folder) => truncate(join(folder, 'picture.png'), 10)],
      ['no picture', (folder) => rm(join(folder, 'picture.png'))],
      ['a cut record', (folder) => truncate(join(folder, 'record.json'), 10)],
      ['a record of something else', (folder) => writeFile(join(folder, 'record.json'), 'null')],
      ['no record', (folder) => rm(join(folder, 'record.json'))],
    ]

    it.each(damages)('treats %s as absent, and takes the picture anew', async (_, damage) => {
      const store = await openStore()
      await store.put(makeImage(png, { seed: 1 }))
      await damage(join(directory, 'picture-1.image'))
      expect(await store.get('picture-1')).toBeUndefined()
      expect(await idsIn(store)).toEqual([])
      expect((await store.put(makeImage(png, { seed: 2 }))).seed).toBe(2)
      expect((await store.get('picture-1'))?.png).toEqual(png)
    })

    it.each(damages)('sweeps %s after the next start', async (_, damage) => {
      await (await openStore()).put(makeImage(png))
      await damage(join(directory, 'picture-1.image'))
      await (await openStore()).sweep()
      expect(await readdir(directory)).toEqual([])
    })
  })

  it('leaves alone what is not its own', async () => {
    const store = await openStore()
    const foreign = ['lost+found', 'Documents', 'notes.image.txt', 'x.partial']
    for (const name of foreign) await mkdir(join(directory, name))
    foreign.push('disk.image')
    await writeFile(join(directory, 'disk.image'), '')
    now = Date.now() + 24 * HOUR_MS
    await store.sweep()
    expect((await readdir(directory)).sort()).toEqual([...foreign].sort())
  })

  it('keeps everything readable by its own user only', async () => {
    await (await openStore()).put(makeImage(png))
    const modeOf = async (...path: string[]) =>
      ((await stat(join(directory, ...path))).mode & 0o777).toString(8)
    expect(await modeOf()).toBe('700')
    expect(await modeOf('picture-1.image')).toBe('700')
    expect(await modeOf('picture-1.image', 'picture.png')).toBe('600')
    expect(await modeOf('picture-1.image', 'record.json')).toBe('600')
  })

  it('writes a picture that any viewer opens, beside its record as JSON', async () => {
    const image = makeImage(png)
    await (await openStore()).put(image)
    expect(await readFile(join(directory, 'picture-1.image', 'picture.png'))).toEqual(png)
    const record = await readFile(join(directory, 'picture-1.image', 'record.json'), 'utf8')
    expect(JSON.parse(record)).toEqual(image.record)
  })

  it.each([
    ['ENOSPC', /the disk of the image store is full/],
    ['EDQUOT', /the disk of the image store is full/],
    ['EIO', /cannot be written to/],
  ])(
    'answers %s with a sentence, leaves nothing behind, and works again afterwards',
    async (code, message) => {
      const store = await createFilesystemImages({
        directory,
        maxBytes: 2 ** 20,
        now: () => NOON,
        retryForMs: 500,
      })
      disk.failure = code
      await expect(store.put(makeImage(png))).rejects.toMatchObject({
        code: 'internal',
        message: expect.stringMatching(message),
        cause: { code },
      })
      expect(await readdir(directory)).toEqual([])
      disk.failure = undefined
      await store.put(makeImage(png))
      expect(await store.get('picture-1')).toBeDefined()
    },
  )

  it('refuses to open where it cannot write, naming the folder and the way out', async () => {
    await mkdir(directory)
    directory = join(directory, 'file')
    await writeFile(directory, '')
    await expect(openStore()).rejects.toThrow(
      `The image folder ${JSON.stringify(directory)} cannot be used (EEXIST). Let IMAGES_DIR name a folder`,
    )
  })

  it('refuses to open on a disk that takes no files', async () => {
    disk.failure = 'EROFS'
    await expect(openStore()).rejects.toThrow('cannot be used (EROFS)')
  })

  it.skipIf(process.getuid?.() === 0)('refuses to open a folder that belongs to somebody else', async () => {
    await mkdir(directory, { mode: 0o500 })
    await expect(openStore()).rejects.toThrow('cannot be used (EACCES)')
    await chmod(directory, 0o700)
  })

  it('finishes what it is writing before it is closed', async () => {
    const store = await openStore()
    const writing = store.put(makeImage(png))
    await store.close()
    expect(await readdir(directory)).toEqual(['picture-1.image'])
    await writing
  })
})
