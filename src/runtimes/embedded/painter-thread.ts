/** The thread that draws, one picture at a time, so that the server's event loop stays free. */
import { parentPort, workerData } from 'node:worker_threads'
import type { FromWorker, ToWorker, WorkerOptions } from './messages.ts'
import { readModel } from './model.ts'
import { createPainter, loadOnnxRuntime } from './painter.ts'

if (!parentPort) throw new Error('painter-thread.ts runs as a worker thread only.')
const port = parentPort
const { folder } = workerData as WorkerOptions
const send = (message: FromWorker, moved: ArrayBuffer[] = []) => port.postMessage(message, moved)
const cancelled = new Set<number>()

const onnx = await loadOnnxRuntime().catch((error) => unusable('onnxruntime-web', error))
const painter = onnx
  ? await readModel(folder)
      .then((files) => createPainter(onnx, files))
      .catch((error) => unusable('model', error))
  : undefined

if (painter) {
  let last: Promise<void> = Promise.resolve()
  port.on('message', (message: ToWorker) => {
    if (message.kind === 'cancel') {
      cancelled.add(message.id)
      return
    }
    const { id, request } = message
    last = last.then(async () => {
      try {
        stopIfCancelled(id)
        const picture = await painter.draw(request, {
          onStep(step, steps) {
            stopIfCancelled(id)
            send({ kind: 'step', id, step, steps })
          },
        })
        // A copy, because short buffers share their memory, and shared memory cannot be handed over.
        const png = Uint8Array.from(picture.png)
        send({ kind: 'drawn', id, picture: { ...picture, png } }, [png.buffer])
      } catch (error) {
        // Nobody listens for a drawing that was cancelled.
        if (!cancelled.has(id)) send({ kind: 'failed', id, reason: String(error) })
      } finally {
        cancelled.delete(id)
      }
    })
  })
  send({ kind: 'ready' })
}

function stopIfCancelled(id: number): void {
  if (cancelled.has(id)) throw new Error('cancelled')
}

function unusable(missing: 'onnxruntime-web' | 'model', error: unknown): undefined {
  send({ kind: 'unusable', missing, reason: String(error) })
}
