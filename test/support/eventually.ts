/** Tries until the check holds; the last failure is thrown after `timeoutMs`. */
export async function eventually(check: () => Promise<void> | void, timeoutMs = 30_000): Promise<void> {
  const until = Date.now() + timeoutMs
  for (;;) {
    try {
      return await check()
    } catch (error) {
      if (Date.now() > until) throw error
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }
}
