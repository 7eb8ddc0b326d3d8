/** How much and how long a query may be, and that it ends when its caller leaves. */
import { describe, expect, test } from 'vitest'
import { eventually } from '../../support/eventually.ts'
import { endless, RUN, type TrinoSuite } from './suite.ts'

export function limits(suite: TrinoSuite): void {
  const { call, query, toolsFor } = suite
  describe('limits', () => {
    test('60,175 rows are cut at the limit, which the answer states; the query ends in Trino', async () => {
      const sql = `SELECT orderkey, comment AS ${RUN} FROM tpch.tiny.lineitem LIMIT 60175`
      const { structured, content } = await call('trino_execute_query', { query: sql })
      expect(structured).toMatchObject({
        row_count: 1000,
        truncated: true,
        limit: { kind: 'rows', value: 1000 },
      })
      expect(structured.rows).toHaveLength(1000)
      expect(content[0]).toMatchObject({
        text: expect.stringMatching(/^1000 rows, cut at the limit of 1000 rows/),
      })
      await eventually(async () => {
        const states = (await suite.trino.queries(sql)).map(({ state }) => state)
        expect(states).toEqual(['FINISHED', expect.stringMatching(/FINISHED|FAILED/)])
      })
    })

    test('a caller may ask for fewer rows, and exactly as many rows as the limit are no cut', async () => {
      const sql = 'SELECT nationkey FROM tpch.tiny.nation'
      expect(await query(sql, { maxRows: 3 })).toMatchObject({
        row_count: 3,
        limit: { kind: 'rows', value: 3 },
      })
      const whole = await query(sql, { maxRows: 25 })
      expect(whole).toMatchObject({ row_count: 25, truncated: false })
      expect(whole).not.toHaveProperty('limit')
      await expect(query(sql, { maxRows: 1001 })).rejects.toMatchObject({ code: 'invalid_request' })
    })

    test('bytes are limited too', async () => {
      const by = toolsFor({}, { limits: { maxRows: 1000, maxBytes: 2000 } })
      const { structured, content } = await by('trino_execute_query', {
        query: 'SELECT * FROM tpch.tiny.customer',
      })
      expect(structured).toMatchObject({ truncated: true, limit: { kind: 'bytes', value: 2000 } })
      expect(JSON.stringify(structured.rows).length).toBeLessThanOrEqual(2001)
      expect(content[0]).toMatchObject({ text: expect.stringContaining('2000 bytes') })
    })

    test('all rows come where the limits allow them', async () => {
      const by = toolsFor({}, { limits: { maxRows: 100_000, maxBytes: 2 ** 26 } })
      const all = await query('SELECT orderkey, linenumber FROM tpch.tiny.lineitem', {}, by)
      expect(all).toMatchObject({ row_count: 60_175, truncated: false })
      expect(new Set((all.rows as unknown[][]).map(String)).size).toBe(60_175)
    })

    test('a query over its time ends with advice, and in Trino', async () => {
      const by = toolsFor({}, { timeoutMs: 3000 })
      await expect(query(endless('over_time'), {}, by)).rejects.toMatchObject({
        code: 'deadline_exceeded',
        message: expect.stringContaining('TRINO_QUERY_TIMEOUT_MS'),
      })
      await eventually(async () => {
        const [, run] = await suite.trino.queries(`over_time_${RUN}`)
        expect(run).toMatchObject({
          state: 'FAILED',
          error: expect.stringMatching(/USER_CANCELED|EXCEEDED_TIME_LIMIT/),
        })
      })
    })

    test('Trino itself knows the time limit, should this server die', async () => {
      const by = toolsFor({}, { timeoutMs: 7000 })
      const { rows } = await query("SHOW SESSION LIKE 'query_max_run_time'", {}, by)
      expect((rows as string[][])[0]?.[1]).toMatch(/^(6\d{3}|7000)(\.\d+)?ms$|^(6\.\d+|7\.00)s$/)
    })
  })
}

export function cancelling(suite: TrinoSuite): void {
  const { call } = suite
  describe('cancelling', () => {
    test('is seen in the list of Trino', async () => {
      const abort = new AbortController()
      const gone = call('trino_execute_query', { query: endless('cancelled_one') }, abort.signal)
      gone.catch(() => {})
      await eventually(async () => {
        expect(await suite.trino.queries(`cancelled_one_${RUN}`)).toContainEqual(
          expect.objectContaining({ state: 'RUNNING', query: endless('cancelled_one') }),
        )
      })
      abort.abort(new Error('the caller left'))
      await expect(gone).rejects.toThrow('the caller left')
      await eventually(async () => {
        expect((await suite.trino.queries(`cancelled_one_${RUN}`)).at(-1)).toMatchObject({
          state: 'FAILED',
          error: 'USER_CANCELED',
        })
      })
    })

    test('at any moment leaves nothing running', async () => {
      for (const afterMs of [0, 1, 5, 20, 50, 100, 200]) {
        const signal = AbortSignal.timeout(afterMs)
        await expect(
          call('trino_execute_query', { query: endless('cancelled_early') }, signal),
        ).rejects.toThrow()
      }
      await eventually(async () => {
        const states = (await suite.trino.queries(`cancelled_early_${RUN}`)).map(({ state }) => state)
        expect(states.filter((state) => state !== 'FINISHED' && state !== 'FAILED')).toEqual([])
      })
    })
  })
}
