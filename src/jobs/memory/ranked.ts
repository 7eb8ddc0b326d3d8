/**
 * Items in order, with how many go before a place and what those cost, each in O(log n): a treap (Seidel, Aragon 1996)
 * whose nodes know the count and the cost of what hangs below them.
 */

/** How many items, and the sum of their costs. */
export interface Sum {
  readonly count: number
  readonly cost: number
}

/** Items by a key and, among equal keys, by a tie breaker. No two items have both in common. */
export interface Ranked<T> {
  readonly total: Sum
  add(entry: { key: number; tie?: number; cost: number; item: T }): void
  /** Takes out the item that has this very place; nothing happens where there is none. */
  remove(key: number, tie?: number): void
  first(): T | undefined
  last(): { readonly item: T; readonly cost: number } | undefined
  /** What goes before a place. */
  before(key: number, tie?: number): Sum
  /** The longest row of first items of which each begins before `limit`, where an item begins at the cost of those before it. */
  beginningBefore(limit: number): Sum
  /** As `beginningBefore`, with an item that begins at the limit. */
  beginningBy(limit: number): Sum
  /** All items from a place on, in order; without a place: all. */
  from(key?: number): readonly { readonly item: T; readonly cost: number }[]
}

interface Node<T> {
  readonly key: number
  readonly tie: number
  readonly cost: number
  readonly item: T
  /** A node's weight is at least that of each node below it: drawn by chance, it keeps the tree flat. */
  readonly weight: number
  left: Node<T> | undefined
  right: Node<T> | undefined
  /** Of this node and all below it. */
  count: number
  sum: number
}

type Tree<T> = Node<T> | undefined

const NOTHING: Sum = { count: 0, cost: 0 }

/** No items. Costs may be any numbers; sums of multiples of one power of two are exact. */
export function createRanked<T>(): Ranked<T> {
  let root: Tree<T>

  function beginning(isIn: (begin: number) => boolean): Sum {
    let count = 0
    let cost = 0
    for (let node = root; node; ) {
      const begin = cost + (node.left?.sum ?? 0)
      if (!isIn(begin)) {
        node = node.left
        continue
      }
      count += (node.left?.count ?? 0) + 1
      cost = begin + node.cost
      node = node.right
    }
    return { count, cost }
  }

  return {
    get total() {
      return root ? { count: root.count, cost: root.sum } : NOTHING
    },
    add({ key, tie = 0, cost, item }) {
      const weight = Math.random()
      root = insert(root, {
        key,
        tie,
        cost,
        item,
        weight,
        left: undefined,
        right: undefined,
        count: 1,
        sum: cost,
      })
    },
    remove(key, tie = 0) {
      root = without(root, key, tie)
    },
    first() {
      let node = root
      while (node?.left) node = node.left
      return node?.item
    },
    last() {
      let node = root
      while (node?.right) node = node.right
      return node
    },
    before(key, tie = 0) {
      let count = 0
      let cost = 0
      for (let node = root; node; ) {
        if (!isBefore(node, key, tie)) {
          node = node.left
          continue
        }
        count += (node.left?.count ?? 0) + 1
        cost += (node.left?.sum ?? 0) + node.cost
        node = node.right
      }
      return { count, cost }
    },
    beginningBefore: (limit) => beginning((begin) => begin < limit),
    beginningBy: (limit) => beginning((begin) => begin <= limit),
    from(key = Number.NEGATIVE_INFINITY) {
      const found: Node<T>[] = []
      collect(root, key, found)
      return found
    },
  }
}

const isBefore = (node: Node<unknown>, key: number, tie: number) =>
  node.key < key || (node.key === key && node.tie < tie)

function counted<T>(node: Node<T>): Node<T> {
  node.count = 1 + (node.left?.count ?? 0) + (node.right?.count ?? 0)
  node.sum = node.cost + (node.left?.sum ?? 0) + (node.right?.sum ?? 0)
  return node
}

function insert<T>(tree: Tree<T>, node: Node<T>): Node<T> {
  if (!tree) return node
  if (node.weight > tree.weight) {
    const [left, right] = split(tree, node.key, node.tie)
    node.left = left
    node.right = right
    return counted(node)
  }
  if (isBefore(tree, node.key, node.tie)) tree.right = insert(tree.right, node)
  else tree.left = insert(tree.left, node)
  return counted(tree)
}

/** What goes before a place, and the rest. */
function split<T>(tree: Tree<T>, key: number, tie: number): [Tree<T>, Tree<T>] {
  if (!tree) return [undefined, undefined]
  if (isBefore(tree, key, tie)) {
    const [left, right] = split(tree.right, key, tie)
    tree.right = left
    return [counted(tree), right]
  }
  const [left, right] = split(tree.left, key, tie)
  tree.left = right
  return [left, counted(tree)]
}

function without<T>(tree: Tree<T>, key: number, tie: number): Tree<T> {
  if (!tree) return undefined
  if (tree.key === key && tree.tie === tie) return joined(tree.left, tree.right)
  if (isBefore(tree, key, tie)) tree.right = without(tree.right, key, tie)
  else tree.left = without(tree.left, key, tie)
  return counted(tree)
}

/** Two trees as one; all of the first go before all of the second. */
function joined<T>(left: Tree<T>, right: Tree<T>): Tree<T> {
  if (!left || !right) return left ?? right
  if (left.weight > right.weight) {
    left.right = joined(left.right, right)
    return counted(left)
  }
  right.left = joined(left, right.left)
  return counted(right)
}

function collect<T>(tree: Tree<T>, key: number, into: Node<T>[]): void {
  if (!tree) return
  if (tree.key >= key) {
    collect(tree.left, key, into)
    into.push(tree)
  }
  collect(tree.right, key, into)
}
