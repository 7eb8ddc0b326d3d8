/** REST: pictures, jobs and tools in plain HTTP. */
import { Hono } from 'hono'
import type { AppEnv } from '../context.ts'
import { type JobRoutesParts, jobRoutes } from './jobs.ts'
import { type PictureRoutesParts, pictureRoutes } from './pictures.ts'
import { type ToolRoutesParts, toolRoutes } from './tools.ts'

export type RestParts = PictureRoutesParts & JobRoutesParts & ToolRoutesParts

/** All REST routes. They throw AppErrors, which the app answers. */
export function restRoutes(parts: RestParts): Hono<AppEnv> {
  return new Hono<AppEnv>()
    .route('/', pictureRoutes(parts))
    .route('/', jobRoutes(parts))
    .route('/', toolRoutes(parts))
}
