-- Whether one more job may wait, judged on what is true now: the rule of `judge` in src/jobs/admission.ts, which
-- writes the sentence of a refusal. test/services/valkey-admission.test.ts holds the two to each other.

-- Code under which each verdict is counted.
local REFUSED_AS = __REFUSED_AS__

local function judge(view)
  local mustWait = view.busy >= view.concurrency or view.queued > 0
  if mustWait and view.queued >= view.queueLimit then return 'full' end
  if mustWait and view.queuedOfCaller >= view.queueLimitOfCaller then return 'callerFull' end
  if not view.ownMs then return nil end
  local needsMs = view.ownMs
  if needsMs > view.deadlineMs then
    if not (view.stale or (not view.measured and not mustWait)) then return 'tooLong' end
    needsMs = 0
  end
  if mustWait and view.aheadMs and view.aheadMs / math.max(1, view.concurrency) + needsMs > view.deadlineMs then return 'tooLate' end
  return nil
end

-- Milliseconds of work ahead, as `aheadOf` in src/jobs/figures.ts; nil while too little is known of jobs like these.
local function aheadOf(model, count, cost)
  if not model or cost > count * model.reach then return nil end
  return count * model.fixedMs + cost * model.unitMs
end
