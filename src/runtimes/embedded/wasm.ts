/** Finds ONNX Runtime's WebAssembly. */
import { createRequire } from 'node:module'

/** The file's path. @throws Error when the optional package is not installed. */
export async function findWasm(): Promise<string> {
  return createRequire(import.meta.url).resolve('onnxruntime-web/ort-wasm-simd-threaded.wasm')
}
