import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { eventually } from '../../../test/support/eventually.ts'
import { listen } from '../../../test/support/listen.ts'
import { createSimulatedServer, type SimulatedStats } from './server.ts'
import { simulatedOptions } from './simulated.ts'

const STEPS = 3
const ACCEPTS = ['application/json', 'text/event-stream']

const withControl = (faultsByRequest: boolean) =>
  createSimulatedServer({ ...simulatedOptions.parse({ msPerStep: 0 }), modelName: 'model', faultsByRequest })

describe('faults of a simulated runtime', () => {
  let url: string
  let close: () => void
  beforeEach(async () => {
    ;({ url, close } = await listen(withControl(true)))
  })
  afterEach(() => close())

  const setFaults = (faults: unknown) =>
    fetch(`${url}/faults`, { method: 'PUT', body: JSON.stringify(faults) })
  const predict = (accept: string, signal?: AbortSignal) =>
    fetch(`${url}/v1/models/model:predict`, {
      method: 'POST',
      headers: { accept },
      body: JSON.stringify({
        instances: [{ prompt: 'a fox', width: 64, height: 64, num_inference_steps: STEPS }],
      }),
      signal,
    })
  const stats = async () => (await (await fetch(`${url}/stats`)).json()) as SimulatedStats

  test('are off until somebody asks for them, and then over when somebody ends them', async () => {
    expect(await (await predict('application/json')).json()).toHaveProperty('predictions')
    expect((await setFaults({ refuse: { status: 503, retryAfterSeconds: 7 } })).status).toBe(200)
    const refused = await predict('text/event-stream')
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([503, '7'])
    expect((await fetch(`${url}/v1/models/model`)).status).toBe(200)
    await setFaults({})
    expect(await (await predict('application/json')).json()).toHaveProperty('predictions')
  })

  test.each(ACCEPTS.flatMap((accept) => [0, 1].map((hangAfterStep) => ({ accept, hangAfterStep }))))(
    'a generation hangs after step $hangAfterStep, until its caller leaves: $accept',
    async ({ accept, hangAfterStep }) => {
      await setFaults({ hangAfterStep })
      const leave = new AbortController()
      const answer = predict(accept, leave.signal).then((response) => response.text())
      answer.catch(() => {})
      await eventually(async () => expect(await stats()).toMatchObject({ running: 1, steps: hangAfterStep }))
      // What hangs goes on hanging, and what begins now does not.
      await setFaults({})
      expect(await (await predict('application/json')).json()).toHaveProperty('predictions')
      expect(await stats()).toMatchObject({ running: 1, finished: 1, steps: hangAfterStep + STEPS })
      leave.abort()
      await eventually(async () => expect(await stats()).toMatchObject({ running: 0, aborted: 1 }))
    },
  )

  test('a silent one accepts everything and answers nothing', async () => {
    await setFaults({ silent: true })
    const patience = () => AbortSignal.timeout(300)
    await expect(fetch(`${url}/v1/models/model`, { signal: patience() })).rejects.toThrow(/timeout/)
    await expect(predict('text/event-stream', patience())).rejects.toThrow(/timeout/)
    expect(await stats()).toMatchObject({ started: 0 })
  })

  test('a slow one takes its time', async () => {
    await setFaults({ msPerStep: 60_000 })
    const leave = new AbortController()
    predict('application/json', leave.signal).catch(() => {})
    await eventually(async () => expect((await stats()).running).toBe(1))
    await setFaults({})
    expect(await (await predict('application/json')).json()).toHaveProperty('predictions')
    expect(await stats()).toMatchObject({ running: 1, finished: 1, steps: STEPS })
    leave.abort()
  })

  test('one that does not exist is refused by name', async () => {
    const response = await setFaults({ explode: true })
    expect(response.status).toBe(400)
    expect(await response.text()).toContain('explode')
  })

  test('nobody can set them where they were not asked for', async () => {
    const response = await withControl(false).request('/faults', { method: 'PUT', body: '{"silent":true}' })
    expect(response.status).toBe(404)
  })
})
