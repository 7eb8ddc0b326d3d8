/** What jobs take in Valkey, in bytes: for admission, for the check at the start, and for docs/scaling.md. */

const KIB = 2 ** 10
const MIB = 2 ** 20

/** A job that has ended, whatever its prompts: at most, and as they usually are. Tests measure both. */
export const ENDED_JOB_BYTES = 2 * KIB
/** A job that waits or runs: with prompts of 200 characters, and with the longest. */
export const WAITING_JOB_BYTES = { usual: 4 * KIB, longest: 32 * KIB }
/** No job is admitted while less is left: what was admitted needs it until its end. */
export const RESERVE_BYTES = 4 * MIB
/** For all jobs on the same server as pictures: 20,000 that have ended, the reserve, and 20 MiB that wait. */
export const JOBS_BYTES = 64 * MIB
