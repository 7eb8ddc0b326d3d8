/** Items kept in order, for lists that grow to hundreds of thousands. */

/** Items that are moved at most when one is added or removed. */
const CHUNK = 512

/**
 * A list in the order of `compare`, which must tell any two of its items apart. Adding, removing and finding take
 * O(log n) comparisons. `Key` is the part of an item that `compare` reads. Change no list while you go through it.
 * A class, because a store has one per owner: functions of its own would take ten times the memory of a short list.
 */
export class Sorted<Item extends Key, Key = Item> {
  readonly #compare: (a: Key, b: Key) => number
  /** In order, each of them too; none is empty. */
  readonly #chunks: Item[][] = []

  constructor(compare: (a: Key, b: Key) => number) {
    this.#compare = compare
  }

  first(): Item | undefined {
    return this.#chunks[0]?.[0]
  }

  add(item: Item): void {
    const place = this.#locate(item)
    const chunk = Math.min(place.chunk, this.#chunks.length - 1)
    const items = this.#chunks[chunk]
    const isLast = place.chunk === this.#chunks.length
    if (!items || (isLast && items.length === CHUNK)) this.#chunks.push([item])
    else {
      items.splice(isLast ? items.length : place.index, 0, item)
      if (items.length > CHUNK) this.#chunks.splice(chunk + 1, 0, items.splice(CHUNK / 2))
    }
  }

  /** Does nothing for an item that is not there. */
  remove(key: Key): void {
    const { chunk, index } = this.#locate(key)
    const items = this.#chunks[chunk]
    if (!items || this.#compare(items[index]!, key) !== 0) return
    items.splice(index, 1)
    if (items.length === 0) this.#chunks.splice(chunk, 1)
  }

  *ascending(): Generator<Item, void> {
    for (const items of this.#chunks) yield* items
  }

  /** From the last item on, or from the last one before `key`. */
  *descending(key?: Key): Generator<Item, void> {
    let { chunk, index } = key === undefined ? { chunk: this.#chunks.length, index: 0 } : this.#locate(key)
    for (;;) {
      const items = this.#chunks[chunk]
      while (items && index-- > 0) yield items[index]!
      chunk -= 1
      if (chunk < 0) return
      index = this.#chunks[chunk]!.length
    }
  }

  /** The first place whose item is not before the key; its chunk does not exist when all are before. */
  #locate(key: Key): { chunk: number; index: number } {
    const chunk = this.#countBefore(key, this.#chunks.length, (index) => this.#chunks[index]!.at(-1)!)
    const items = this.#chunks[chunk]
    return { chunk, index: items ? this.#countBefore(key, items.length, (index) => items[index]!) : 0 }
  }

  /** How many of the first `length` are before the key. */
  #countBefore(key: Key, length: number, at: (index: number) => Key): number {
    let low = 0
    let high = length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.#compare(at(middle), key) < 0) low = middle + 1
      else high = middle
    }
    return low
  }
}
