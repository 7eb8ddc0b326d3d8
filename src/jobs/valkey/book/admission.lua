-- Whether one more job may wait, judged on what is true now: the rule of `judge` in src/jobs/admission.ts, which
-- writes the sentence of a refusal. test/services/valkey-admission.test.ts holds the two to each other.

-- Code under which each verdict is counted.
local REFUSED_AS = __REFUSED_AS__

local function judge(view)
  local mustWait = view.busy >= view.concurrency or view.queued > 0
  if mustWait and view.queued >= view.queueLimit then return 'full' end
  if mustWait and view.queuedOfCaller >= view.queueLimitOfCaller then return 'callerFull' end
  if not view.ownMs then return nil end
  if view.ownMs > view.deadlineMs and not (view.stale and not mustWait) then return 'tooLong' end
  if mustWait and view.aheadMs / view.concurrency + view.ownMs > view.deadlineMs then return 'tooLate' end
  return nil
end
