-- The commands that servers call. Each ends in `answer`.

local SAMPLES = 200
local SWEEP_AT_MOST = 100
-- A delivery that no worker took for this long is repeated: the server that had to make it may have died.
local REDELIVER_MS = 2000
-- A worker frees its slot itself, and another one does so for a dead worker. This is for when even that got lost.
local RELEASE_AT_MOST_MS = 300000

-- Every command ends here: free slots are given away, then everybody is told what changed.
local function answer(reply, sample)
  for target in pairs(touched) do grant(target) end
  local message = { changes = changes, targets = {}, sample = sample }
  for target in pairs(touched) do message.targets[target] = counts(target) end
  if #changes > 0 or sample or next(message.targets) then
    redis.call('PUBLISH', P .. 'events', cjson.encode(message))
  end
  reply.now = NOW
  reply.ended = ended
  reply.granted = granted
  reply.behind = behind
  reply.targets = message.targets
  return cjson.encode(reply)
end

local function refused(target, code)
  redis.call('HINCRBY', targetKey(target, 'figures'), 'refused:' .. code, 1)
  touched[target] = true
end

local commands = {}

-- A server tells how many generations a target takes at once, and gets what happened so far.
commands.target = function(asked)
  redis.call('HSET', targetKey(asked.target, 'figures'), 'concurrency', asked.concurrency)
  touched[asked.target] = true
  return answer({ samples = redis.call('LRANGE', targetKey(asked.target, 'samples'), 0, -1) })
end

-- The job that a submission is a retry of, or may share, and its life; nil when it needs one of its own. Third: true
-- where another request came under a key that is taken. Strangers share nothing.
local function findTwin(asked)
  if asked.anonymous then return nil end
  if asked.key then
    local id, life = joinable(P .. 'key:' .. asked.key)
    if id then return id, life, redis.call('HGET', jobKey(id), 'requestHash') ~= asked.requestHash end
  end
  local id, life = joinable(P .. 'request:' .. asked.requestHash)
  if not id then return nil end
  if not isOrphan(life) and (asked.key or not asked.seeded) then return nil end
  return id, life, false
end

local function join(id, asked)
  local key = jobKey(id)
  apply(id, 'join')
  addLease(id, asked.waiter, asked.leaseMs)
  -- Whoever joins may allow more time; nobody is given less than was promised.
  local deadline = NOW + asked.deadlineMs
  if deadline > num(redis.call('HGET', key, 'deadlineAt')) then
    redis.call('HSET', key, 'deadlineAt', text(deadline))
    redis.call('ZADD', P .. 'due', deadline, 'expire|' .. id)
  end
  rememberKey(id, asked.key)
end

-- What admission looks at: AdmissionView of src/jobs/admission.ts, but for ownTurnMs.
local function viewOf(asked)
  local target = asked.target
  local view = {
    concurrency = asked.concurrency, queueLimit = asked.queueLimit, queueLimitOfCaller = asked.queueLimitOfCaller,
    deadlineMs = asked.deadlineMs, ownMs = asked.ownMs, measured = asked.measured, stale = asked.stale,
    busy = redis.call('ZCARD', targetKey(target, 'running')) + redis.call('ZCARD', targetKey(target, 'releasing')),
    queued = redis.call('ZCARD', targetKey(target, 'queued')),
    queuedOfCaller = redis.call('ZCARD', jobsKey(target, lineOf(asked.owner))),
  }
  if not asked.ownMs then return view end
  local runningMs, nextSlotMs = remaining(target)
  local start = startOf(target, asked.owner)
  local ahead = aheadOf(asked.model, countBefore(target, start), costBefore(target, start))
  if ahead then view.aheadMs = runningMs + ahead end
  view.nextSlotMs = nextSlotMs or asked.ownMs
  return view
end

-- Until the first waiting job of this caller starts, as `aheadMs`: only who is refused for having too many needs it.
local function ownTurnOf(asked)
  local turn, start = turnAt(asked.target, lineOf(asked.owner), 0)
  if not turn then return nil end
  local ahead = aheadOf(asked.model, countBefore(asked.target, start, turn), costBefore(asked.target, start, turn))
  return ahead and (remaining(asked.target) + ahead) / asked.concurrency
end

local function admit(asked)
  local id, target = asked.id, asked.target
  local deadline = NOW + asked.deadlineMs
  local arrival = redis.call('HINCRBY', targetKey(target, 'figures'), 'admitted', 1)
  local line, member = enqueue(target, { id = id, owner = asked.owner, cost = asked.cost, arrival = arrival })
  redis.call('HSET', jobKey(id),
    'id', id, 'imageId', asked.imageId, 'owner', asked.owner, 'target', target, 'request', asked.request,
    'requestHash', asked.requestHash, 'requestId', asked.requestId or '', 'life', 'queued/attended',
    'createdAt', text(NOW), 'deadlineAt', text(deadline), 'cost', exact(asked.cost), 'ownMs', asked.ownMs or 0,
    'graceMs', asked.graceMs, 'ttlMs', asked.ttlMs, 'line', line, 'member', member, 'waiters', 0, 'run', 0, 'reruns', 0)
  addLease(id, asked.waiter, asked.leaseMs)
  redis.call('ZADD', P .. 'due', deadline, 'expire|' .. id)
  redis.call('SET', P .. 'request:' .. asked.requestHash, id, 'PX', text(asked.deadlineMs + asked.ttlMs))
  rememberKey(id, asked.key)
  changed(target, id, 'queued')
  grant(target)
end

-- Joins the job that a submission is a retry of, or may share; else admits a new one, or refuses it.
commands.submit = function(asked)
  local id, life, conflict = findTwin(asked)
  if conflict then
    refused(redis.call('HGET', jobKey(id), 'target'), 'conflict')
    return answer({ verdict = 'conflict' })
  end
  if id and life == 'succeeded' then return answer({ verdict = 'succeeded', job = snapshot(id) }) end
  if id then
    join(id, asked)
    return answer({ verdict = 'joined', job = snapshot(id) })
  end
  if asked.closed then
    refused(asked.target, 'overloaded')
    return answer({ verdict = 'closed' })
  end
  local view = viewOf(asked)
  local because = judge(view)
  if because then
    if because == 'callerFull' then view.ownTurnMs = ownTurnOf(asked) end
    refused(asked.target, REFUSED_AS[because])
    return answer({ verdict = 'refused', because = because, view = view })
  end
  admit(asked)
  return answer({ verdict = 'admitted', job = snapshot(asked.id) })
end

-- Its picture was deleted: the next submission makes it anew.
commands.forget = function(asked)
  forgetKeysAfter(asked.id, 0)
  return answer({})
end

-- watch: somebody follows the job without being a waiter, so its steps are published from now on.
commands.get = function(asked)
  local life = asked.watch and redis.call('HGET', jobKey(asked.id), 'life')
  if life and isLive(life) then redis.call('HSET', jobKey(asked.id), 'watched', 1) end
  return answer({ job = snapshot(asked.id) })
end

-- Jobs that servers follow, as `get` tells each; those that the book does not have are left out.
commands.snapshots = function(asked)
  local jobs, outlooks = {}, {}
  for _, id in ipairs(asked.ids) do jobs[#jobs + 1] = snapshot(id, outlooks) end
  return answer({ jobs = jobs })
end

-- detach and cancel, by whoever owns the job.
commands.event = function(asked)
  if redis.call('HGET', jobKey(asked.id), 'owner') == asked.owner then apply(asked.id, asked.event) end
  return answer({ job = snapshot(asked.id) })
end

commands.leave = function(asked)
  endLease(asked.id, asked.waiter)
  return answer({})
end

-- Waiters are still there. One whose lease ran out meanwhile (its server stood still) joins again.
commands.renew = function(asked)
  local over = {}
  for _, waiter in ipairs(asked.waiters) do
    local id = waiter[1]
    local life = redis.call('HGET', jobKey(id), 'life')
    if not life or not isLive(life) then
      over[#over + 1] = id
    elseif redis.call('ZSCORE', P .. 'leases', id .. '|' .. waiter[2]) then
      redis.call('ZADD', P .. 'leases', NOW + asked.leaseMs, id .. '|' .. waiter[2])
    else
      apply(id, 'join')
      addLease(id, waiter[2], asked.leaseMs)
    end
  end
  return answer({ over = over })
end

-- A worker has a delivery in hand. go: the run is its own; held: another worker runs the job; ended: nothing to do.
commands.start = function(asked)
  local id, key = asked.id, jobKey(asked.id)
  redis.call('ZREM', P .. 'undelivered', asked.target .. '|' .. id)
  local job = redis.call('HMGET', key, 'life', 'run', 'leaseAt', 'reruns', 'attempt')
  if not job[1] or not isLive(job[1]) then
    if not job[1] then leaveRunning(asked.target, id) end
    release(asked.target, id)
    return answer({ verdict = 'ended' })
  end
  -- It asks again, because the answer did not reach it: the run is its own already.
  if job[5] == asked.attempt then
    return answer({ verdict = 'go', run = num(job[2]), job = snapshot(id) })
  end
  if num(job[2]) > 0 then
    if num(job[3]) > NOW then return answer({ verdict = 'held', waitMs = num(job[3]) - NOW }) end
    if redis.call('HINCRBY', key, 'reruns', 1) > asked.maxReruns then
      redis.call('HSET', key, 'error', asked.exhausted)
      apply(id, 'fail')
      release(asked.target, id)
      return answer({ verdict = 'ended' })
    end
    redis.call('HDEL', key, 'progress')
  end
  local run = redis.call('HINCRBY', key, 'run', 1)
  redis.call('HSET', key, 'leaseAt', text(NOW + asked.lockMs), 'attempt', asked.attempt)
  changed(asked.target, id, 'running')
  return answer({ verdict = 'go', run = run, job = snapshot(id) })
end

-- The runs that a worker has in hand go on; answers those that it has to abort: ended, or taken over by another worker.
commands.beat = function(asked)
  local lost = {}
  for _, run in ipairs(asked.runs) do
    if holds(run[1], run[2]) then
      redis.call('HSET', jobKey(run[1]), 'leaseAt', text(NOW + asked.lockMs))
    else
      lost[#lost + 1] = run[1]
    end
  end
  return answer({ lost = lost })
end

-- Steps of runs that a server has in hand; answers those that it has to abort. All are kept for who asks later; those of
-- jobs that somebody follows are published, in one message.
commands.progress = function(asked)
  local lost, heard = {}, {}
  for _, step in ipairs(asked.steps) do
    local id, run, progress = step[1], step[2], step[3]
    if holds(id, run) then
      redis.call('HSET', jobKey(id), 'progress', progress)
      local followers = redis.call('HMGET', jobKey(id), 'waiters', 'watched')
      if num(followers[1]) > 0 or followers[2] then heard[#heard + 1] = { id, progress } end
    else
      lost[#lost + 1] = id
    end
  end
  if #heard > 0 then redis.call('PUBLISH', P .. 'events', cjson.encode({ steps = heard })) end
  return answer({ lost = lost })
end

-- The end of a run: finish with its image, fail with its error, or release after an abort. A run that another worker
-- took over changes nothing.
commands.finish = function(asked)
  local id, key = asked.id, jobKey(asked.id)
  local run = redis.call('HGET', key, 'run')
  if run and num(run) ~= asked.run then return answer({ verdict = 'lost' }) end
  if not run then leaveRunning(asked.target, id) end
  local verdict = 'late'
  if asked.event ~= 'release' and holds(id, asked.run) then
    redis.call('HSET', key, asked.event == 'finish' and 'image' or 'error', asked.outcome)
    apply(id, asked.event)
    verdict = 'told'
  end
  local sample = verdict == 'told' and asked.sample or nil
  if sample then
    local samples = targetKey(asked.target, 'samples')
    redis.call('LPUSH', samples, sample)
    redis.call('LTRIM', samples, 0, SAMPLES - 1)
    local model = asked.model
    if model then
      redis.call('HSET', targetKey(asked.target, 'figures'),
        'fixedMs', exact(model.fixedMs), 'unitMs', exact(model.unitMs), 'reach', exact(model.reach))
    end
  end
  release(asked.target, id)
  return answer({ verdict = verdict }, sample and { asked.target, sample })
end

-- A worker that stops gives a run back: the next one to take it needs not wait, and it does not count as a re-run.
commands.handback = function(asked)
  if holds(asked.id, asked.run) then
    redis.call('HSET', jobKey(asked.id), 'leaseAt', '0')
    redis.call('HINCRBY', jobKey(asked.id), 'reruns', -1)
  end
  return answer({})
end

-- Targets whose free slots were too many for one script.
local function catchUp()
  for _, target in ipairs(redis.call('SMEMBERS', P .. 'behind')) do
    redis.call('SREM', P .. 'behind', target)
    touched[target] = true
  end
end

-- Goes on giving away slots; called until a reply is no longer `behind`, and by every sweep.
commands.grant = function()
  catchUp()
  return answer({})
end

-- What nobody else is sure to do: deadlines, orphans, waiters of dead servers, deliveries that got lost.
commands.sweep = function(asked)
  sweeping = true
  if asked.leases then
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', P .. 'leases', '-inf', NOW, 'LIMIT', 0, SWEEP_AT_MOST)) do
      local id, waiter = string.match(member, '^([^|]*)|(.*)$')
      endLease(id, waiter)
    end
  end
  local due = {}
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', P .. 'due', '-inf', NOW, 'LIMIT', 0, SWEEP_AT_MOST)) do
    due[#due + 1] = { string.match(member, '^(%a+)|(.*)$') }
  end
  applyDue(due)
  catchUp()
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', P .. 'undelivered', '-inf', NOW - REDELIVER_MS, 'LIMIT', 0, SWEEP_AT_MOST)) do
    redis.call('ZADD', P .. 'undelivered', NOW, member)
    local target, id = string.match(member, '^([^|]*)|(.*)$')
    granted[#granted + 1] = { target, id }
  end
  for _, target in ipairs(asked.targets) do
    if redis.call('ZREMRANGEBYSCORE', targetKey(target, 'releasing'), '-inf', NOW - RELEASE_AT_MOST_MS) > 0 then
      touched[target] = true
    end
  end
  return answer({})
end

return commands[ARGV[1]](cjson.decode(ARGV[2]))
