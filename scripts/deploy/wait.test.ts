import { describe, expect, test } from 'vitest'
import { describePod, type Pod } from './wait.ts'

const pod = (status: Partial<Pod['status']>, deletionTimestamp?: string): Pod => ({
  metadata: { name: 'mcp-server-1', ...(deletionTimestamp ? { deletionTimestamp } : {}) },
  spec: { containers: [] },
  status: { phase: 'Pending', ...status },
})
const container = (name: string, state: object, more: object = {}) => ({
  name,
  ready: false,
  restartCount: 0,
  state,
  ...more,
})

describe('where a pod is, in one phrase', () => {
  test.each([
    [
      'Ready',
      pod({ phase: 'Running', containerStatuses: [container('server', { running: {} }, { ready: true })] }),
    ],
    ['Succeeded', pod({ phase: 'Succeeded' })],
    ['Terminating', pod({ phase: 'Running' }, '2026-01-01T00:00:00Z')],
    [
      'Pending: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu.',
      pod({
        conditions: [
          {
            type: 'PodScheduled',
            status: 'False',
            reason: 'Unschedulable',
            message: '0/1 nodes are available: 1 Insufficient nvidia.com/gpu.',
          },
        ],
      }),
    ],
    [
      'Init (wait-for-runtime): not ready yet',
      pod({ initContainerStatuses: [container('wait-for-runtime', { running: {} })] }),
    ],
    [
      'Init (wait-for-runtime): back-off 10s restarting, 2 restarts',
      pod({
        initContainerStatuses: [
          container(
            'wait-for-runtime',
            { waiting: { reason: 'CrashLoopBackOff', message: 'back-off 10s restarting' } },
            { restartCount: 2 },
          ),
        ],
      }),
    ],
    [
      'Pending (server): ImagePullBackOff',
      pod({
        initContainerStatuses: [container('wait-for-runtime', { terminated: { exitCode: 0 } })],
        containerStatuses: [container('server', { waiting: { reason: 'ImagePullBackOff' } })],
      }),
    ],
    [
      'Running (server): ended with 137',
      pod({ phase: 'Running', containerStatuses: [container('server', { terminated: { exitCode: 137 } })] }),
    ],
  ])('%s', (phrase, given) => {
    expect(describePod(given)).toBe(phrase)
  })
})
