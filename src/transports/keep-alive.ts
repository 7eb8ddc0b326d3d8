/** How often a silent stream says that it lives, in milliseconds: proxies and hosts drop those that do not. */
export const KEEP_ALIVE_MS = 15_000
