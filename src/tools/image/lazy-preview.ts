/** Loads the preview library at the first preview, so that servers start faster. */
import { AppError } from '../../errors.ts'
import type { makePreview as MakePreview } from '../../images/preview.ts'

/** Same as in images/preview.ts. @throws AppError also `internal` where sharp's native library is not installed. */
export const makePreview: typeof MakePreview = async (png, options) => {
  const previews = await import('../../images/preview.ts').catch((cause) => {
    const advice = 'type `npm install --include=optional`, or use the whole picture.'
    throw new AppError('internal', `Previews need the optional packages of sharp: ${advice}`, { cause })
  })
  return await previews.makePreview(png, options)
}
