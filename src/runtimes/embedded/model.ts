/** The files of an embedded model: what model/export.py writes. */
import { access, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'

/** What a sampler must know about the model besides its weights. */
const about = z.object({
  /** The model's name in every answer. */
  name: z.string().min(1),
  /** Numbers of a cell of the latents. */
  channels: z.int().positive(),
  /** Cells of a side of the latents. */
  latentSide: z.int().positive(),
  /** Pixels of a side of a picture. */
  side: z.int().positive(),
  /** Tokens that the text encoder reads. */
  positions: z.int().positive(),
  startToken: z.int().nonnegative(),
  endToken: z.int().nonnegative(),
  /** Steps and guidance where the request names none. */
  steps: z.int().positive(),
  guidance: z.number(),
  /** The share of the picture's variance that is left after each step of the noise, first to last. */
  alphasCumulative: z.array(z.number().min(0).max(1)).min(2),
})

const tokenizer = z.object({
  model: z.object({
    vocab: z.record(z.string(), z.int()),
    merges: z.array(z.tuple([z.string(), z.string()])),
  }),
})

export type AboutModel = z.output<typeof about>
export type Vocabulary = z.output<typeof tokenizer>['model']

export interface ModelFiles {
  readonly about: AboutModel
  readonly vocabulary: Vocabulary
  /** ONNX models. */
  readonly textEncoder: Uint8Array
  readonly denoiser: Uint8Array
  readonly decoder: Uint8Array
}

const FILES = {
  about: 'model.json',
  tokenizer: 'tokenizer.json',
  textEncoder: 'text_encoder.onnx',
  denoiser: 'denoiser.onnx',
  decoder: 'decoder.onnx',
}

/** Resolves when the five files of a model are there. @throws Error that names a missing one. */
export async function findModel(folder: string): Promise<void> {
  await Promise.all(Object.values(FILES).map((name) => access(join(folder, name))))
}

/** Reads the five files of a model. @throws Error that names what is missing or wrong. */
export async function readModel(folder: string): Promise<ModelFiles> {
  const file = (name: string) => readFile(join(folder, name))
  const [aboutText, tokenizerText, textEncoder, denoiser, decoder] = await Promise.all([
    file(FILES.about),
    file(FILES.tokenizer),
    file(FILES.textEncoder),
    file(FILES.denoiser),
    file(FILES.decoder),
  ])
  return {
    about: about.parse(JSON.parse(aboutText.toString())),
    vocabulary: tokenizer.parse(JSON.parse(tokenizerText.toString())).model,
    textEncoder,
    denoiser,
    decoder,
  }
}
