/** Items kept in order, for lists that grow to hundreds of thousands. */

/** Items that are moved at most when one is added or removed. */
const CHUNK = 512

export type Sorted<Item extends Key, Key = Item> = ReturnType<typeof createSorted<Item, Key>>

/**
 * An empty list in the order of `compare`, which must tell any two of its items apart. Adding, removing and finding take
 * O(log n) comparisons. `Key` is the part of an item that `compare` reads. Change no list while you go through it.
 */
export function createSorted<Item extends Key, Key = Item>(compare: (a: Key, b: Key) => number) {
  /** In order, each of them too; none is empty. */
  const chunks: Item[][] = []

  /** How many of the first `length` are before the key. */
  function countBefore(key: Key, length: number, at: (index: number) => Key): number {
    let low = 0
    let high = length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (compare(at(middle), key) < 0) low = middle + 1
      else high = middle
    }
    return low
  }

  /** The first place whose item is not before the key; its chunk does not exist when all are before. */
  function locate(key: Key): { chunk: number; index: number } {
    const chunk = countBefore(key, chunks.length, (index) => chunks[index]!.at(-1)!)
    const items = chunks[chunk]
    return { chunk, index: items ? countBefore(key, items.length, (index) => items[index]!) : 0 }
  }

  return {
    first: (): Item | undefined => chunks[0]?.[0],

    add(item: Item): void {
      const place = locate(item)
      const chunk = Math.min(place.chunk, chunks.length - 1)
      const items = chunks[chunk]
      const isLast = place.chunk === chunks.length
      if (!items || (isLast && items.length === CHUNK)) chunks.push([item])
      else {
        items.splice(isLast ? items.length : place.index, 0, item)
        if (items.length > CHUNK) chunks.splice(chunk + 1, 0, items.splice(CHUNK / 2))
      }
    },

    /** Does nothing for an item that is not there. */
    remove(key: Key): void {
      const { chunk, index } = locate(key)
      const items = chunks[chunk]
      if (!items || compare(items[index]!, key) !== 0) return
      items.splice(index, 1)
      if (items.length === 0) chunks.splice(chunk, 1)
    },

    *ascending(): Generator<Item, void> {
      for (const items of chunks) yield* items
    },

    /** From the last item on, or from the last one before `key`. */
    *descending(key?: Key): Generator<Item, void> {
      let { chunk, index } = key === undefined ? { chunk: chunks.length, index: 0 } : locate(key)
      for (;;) {
        const items = chunks[chunk]
        while (items && index-- > 0) yield items[index]!
        chunk -= 1
        if (chunk < 0) return
        index = chunks[chunk]!.length
      }
    },
  }
}
