/** Every setting of the load tests, in one table: the checks, the messages and docs/load-testing.md are made of it. */

interface Kind<T> {
  /** What may be written, as a phrase. */
  readonly allowed: string
  /** undefined where the text is none of it. */
  parse(text: string): T | undefined
}

interface Setting<T> extends Kind<T> {
  readonly unit: string
  readonly doc: string
  /** As one would write it. */
  readonly default?: string
  /** What to do when it is not given; absent: it may be left out. */
  readonly advice?: string
}

const number = (min: number, max: number): Kind<number> => ({
  allowed: `a number from ${min} to ${max}`,
  parse: (text) => {
    const value = Number(text)
    return text.trim() !== '' && value >= min && value <= max ? value : undefined
  },
})
const wholeNumber = (min: number, max: number): Kind<number> => {
  const any = number(min, max)
  return {
    allowed: `a whole ${any.allowed.slice(2)}`,
    parse: (text) => (/^\d+$/.test(text) ? any.parse(text) : undefined),
  }
}
const text: Kind<string> = { allowed: 'a text', parse: (value) => value }
const urls: Kind<readonly string[]> = {
  allowed: 'http:// or https:// URLs, separated by commas',
  parse: (value) => {
    const all = value.split(',').map((part) => part.trim().replace(/\/+$/, ''))
    return all.every((part) => /^https?:\/\/[^\s?#]+$/.test(part)) ? all : undefined
  },
}

/** Ways to ask for something; the ones with `data` need Trino or XDP behind the server. */
export const INTERFACES = ['rest', 'mcp', 'mcp-2025', 'websocket', 'websocket-mcp', 'trino', 'xdp'] as const
export type Interface = (typeof INTERFACES)[number]

/** Percent of the calls by interface. */
export type Mix = Partial<Record<Interface, number>>

const mix: Kind<Mix> = {
  allowed: `percentages of ${INTERFACES.join(', ')} that total 100, such as rest=60,mcp=40`,
  parse: (value) => {
    const parts = value.split(',').map((part) => part.trim().split('='))
    const known = parts.every(
      ([name, share]) => INTERFACES.includes(name as Interface) && /^\d+$/.test(share ?? ''),
    )
    const total = parts.reduce((sum, [, share]) => sum + Number(share), 0)
    return known && total === 100
      ? (Object.fromEntries(parts.map(([name, share]) => [name, Number(share)])) as Mix)
      : undefined
  },
}

const setting = <T, O extends Omit<Setting<T>, keyof Kind<T>>>(kind: Kind<T>, options: O) => ({
  ...kind,
  ...options,
})

const MEASURE = '`npm run loadtest -- capacity --url …` measures it'

export const SETTINGS = {
  BASE_URL: setting(urls, {
    unit: 'URL',
    doc: 'The server; several replicas, separated by commas, take turns.',
    advice: 'Write where the server is: -e BASE_URL=http://127.0.0.1:8080, or --url with npm run loadtest.',
  }),
  TOKEN: setting(text, { unit: 'text', doc: 'The bearer token, where the server wants one.' }),
  TOKEN_FILE: setting(text, { unit: 'path', doc: 'A file that holds the token.' }),
  CAPACITY_PER_SECOND: setting(number(0.0001, 100_000), {
    unit: 'pictures/s',
    doc: 'What the deployment sustains; levels such as 0.5x are of this. Not used by smoke and capacity.',
    advice: `Write what the server sustains: ${MEASURE}.`,
  }),
  PLACES: setting(wholeNumber(1, 200_000), {
    unit: 'pictures',
    doc: 'How many pictures the target holds at once: its concurrency and its queue, as /api/queue tells them. PLACES / CAPACITY_PER_SECOND bounds the time of an admitted call. Not used by smoke and capacity.',
    advice: 'Write concurrency + queue_limit of GET /api/queue; npm run loadtest reads it by itself.',
  }),
  CONCURRENCY: setting(wholeNumber(1, 100_000), {
    unit: 'pictures',
    doc: 'How many callers the scenario capacity goes up to: the concurrency of the target, as /api/queue tells it.',
    advice: 'Write concurrency of GET /api/queue; npm run loadtest reads it by itself.',
  }),
  PHASE_SECONDS: setting(number(1, 604_800), {
    unit: 's',
    doc: 'How long each phase lasts. Absent: 20 (capacity), 30 (smoke, spike), 60 (stress), 300 (load, websocket, mixed), 3600 (soak).',
  }),
  PEAK: setting(number(2, 1000), {
    unit: 'x capacity',
    doc: 'The highest level of stress.',
    default: '10',
  }),
  TIMEOUT_SECONDS: setting(wholeNumber(1, 3600), {
    unit: 's',
    doc: 'How long a caller waits for a picture: sent as the deadline (X-Request-Timeout), and the longest that a request may take.',
    default: '120',
  }),
  MODEL: setting(text, { unit: 'name', doc: 'The target. Absent: the first one.' }),
  WIDTH: setting(wholeNumber(64, 2048), {
    unit: 'pixels',
    doc: "Width of the pictures. Absent: the target's own.",
  }),
  HEIGHT: setting(wholeNumber(64, 2048), { unit: 'pixels', doc: "Height. Absent: the target's own." }),
  STEPS: setting(wholeNumber(1, 200), { unit: 'steps', doc: "Denoising steps. Absent: the target's own." }),
  MIX: setting(mix, {
    unit: '%',
    doc: 'Which interfaces the calls use; must total 100. Absent: what the scenario says.',
  }),
  TRINO_QUERY: setting(text, { unit: 'SQL', doc: 'What `trino` in MIX asks.', default: 'SELECT 1' }),
  SAMPLE_EVERY: setting(wholeNumber(1, 1_000_000), {
    unit: 'pictures',
    doc: 'Every n-th picture is looked at: PNG signature, size, end. Absent: 1 (smoke), 20 (the others).',
  }),
  MAX_VUS: setting(wholeNumber(1, 20_000), {
    unit: 'callers',
    doc: 'The most callers at once in a phase; each takes 1-2 MB of the load generator. A call that finds none free is a dropped iteration.',
    default: '300',
  }),
  TIME_SLACK: setting(number(1, 1000), {
    unit: 'factor',
    doc: 'Factor on all bounds of time and goodput, for machines that other work shares.',
    default: '1',
  }),
  RECORDS: setting(wholeNumber(0, 1), {
    unit: '0 or 1',
    doc: '1: prints every call and the verdict as JSON lines, for the report. npm run loadtest sets it.',
    default: '0',
  }),
} satisfies Record<string, Setting<unknown>>

export type SettingName = keyof typeof SETTINGS
type Value<N extends SettingName> = NonNullable<ReturnType<(typeof SETTINGS)[N]['parse']>>
type Given<N extends SettingName> = (typeof SETTINGS)[N] extends { default: string } | { advice: string }
  ? Value<N>
  : Value<N> | undefined

/**
 * A setting from the environment.
 * @throws Error that says what is missing and what to write, or what is wrong with the value.
 */
export function readSetting<N extends SettingName>(
  environment: Record<string, string | undefined>,
  name: N,
): Given<N> {
  const { parse, allowed, default: fallback, advice } = SETTINGS[name] as Setting<Value<N>>
  const given = environment[name] || fallback
  if (given === undefined) {
    if (advice !== undefined) throw new Error(`${name} is not set. ${advice}`)
    return undefined as Given<N>
  }
  const value = parse(given)
  if (value === undefined) throw new Error(`${name}=${JSON.stringify(given)}: it must be ${allowed}.`)
  return value as Given<N>
}

/** The table of docs/load-testing.md. */
export function settingsMarkdown(): string {
  return [
    '| setting | unit | default | what it is |',
    '|---|---|---|---|',
    ...Object.entries<Setting<unknown>>(SETTINGS).map(([name, { unit, doc, default: fallback, advice }]) => {
      const standard = fallback === undefined ? (advice === undefined ? '' : 'required') : `\`${fallback}\``
      return `| \`${name}\` | ${unit} | ${standard} | ${doc} |`
    }),
  ].join('\n')
}
