/** Where ONNX Runtime's WebAssembly lies. */
import { createRequire } from 'node:module'

/** The file's path. @throws Error where the optional package is not installed. */
export async function findWasm(): Promise<string> {
  return createRequire(import.meta.url).resolve('onnxruntime-web/ort-wasm-simd-threaded.wasm')
}
