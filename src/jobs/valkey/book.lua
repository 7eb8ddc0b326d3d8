-- The book of jobs: every change of every job, each of them atomic. One script; ARGV[1] names the command.
--
-- Keys, all below the prefix KEYS[1]:
--   job:<id>             hash    one job; expires some time after its end
--   key:<hash>           string  idempotency key of a caller -> job id
--   request:<hash>       string  a caller's request -> its latest job id
--   due                  zset    "expire|<id>" and "abandon|<id>" by the time when they happen
--   leases               zset    "<id>|<waiter>" by the time when the waiter counts as gone
--   undelivered          zset    "<target>|<id>" of slots that no worker has taken yet, by when they were last delivered
--   target:<name>:queued     zset  "<arrival>|<id>" by virtual start (start-time fair queuing)
--   target:<name>:running    zset  ids by when they should be finished
--   target:<name>:releasing  zset  ids that ended while the runtime had not let go yet, by when they ended
--   target:<name>:callers    hash  how many of a caller's jobs wait
--   target:<name>:tags       hash  where a caller's next job would start in virtual time
--   target:<name>:figures    hash  concurrency, counts and totals
--   target:<name>:samples    list  the last finished generations, for servers that start later
-- Messages about changes go to the channel <prefix>events. Times are this server's, in milliseconds.

local P = KEYS[1]
local TRANSITIONS = __TRANSITIONS__
local clock = redis.call('TIME')
local NOW = clock[1] * 1000 + math.floor(clock[2] / 1000)

local SAMPLES = 200
local SWEEP_AT_MOST = 100
-- A delivery that no worker took for this long is repeated: the server that had to make it may have died.
local REDELIVER_MS = 2000
-- A worker frees its slot itself, and another one does so for a dead worker. This is for when even that got lost.
local RELEASE_AT_MOST_MS = 300000
-- Callers whose turn is over are forgotten when the queue runs empty, or when there are this many of them.
local TAGS_KEPT = 1000

-- What happened in this call: goes to the caller, and to everybody else as one message.
local changes, ended, granted, touched = {}, {}, {}, {}

local function num(value) return tonumber(value) or 0 end
local function text(value) return string.format('%.0f', value) end
local function jobKey(id) return P .. 'job:' .. id end
local function targetKey(target, part) return P .. 'target:' .. target .. ':' .. part end
local function publicState(life) return string.match(life, '^[^/]+') end
local function isOrphan(life) return string.sub(life, -7) == '/orphan' end
local function isLive(life) return string.find(life, '/', 1, true) ~= nil end

local function changed(target, id, state)
  touched[target] = true
  changes[#changes + 1] = { target, id, state }
end

-- Takes a job out of the queue; what it would have cost is given back where it was the caller's last in line.
local function unqueue(id, target)
  local job = redis.call('HMGET', jobKey(id), 'member', 'owner', 'cost')
  local member, owner, cost = job[1], job[2], num(job[3])
  local queue, tags = targetKey(target, 'queued'), targetKey(target, 'tags')
  local start = redis.call('ZSCORE', queue, member)
  if not start then return nil end
  redis.call('ZREM', queue, member)
  redis.call('HINCRBYFLOAT', targetKey(target, 'figures'), 'queuedCost', -cost)
  if redis.call('HINCRBY', targetKey(target, 'callers'), owner, -1) <= 0 then
    redis.call('HDEL', targetKey(target, 'callers'), owner)
  end
  if redis.call('ZCARD', queue) == 0 then
    -- The busy period is over: nobody owes anybody anything, and virtual time begins anew.
    redis.call('DEL', tags, targetKey(target, 'callers'))
    redis.call('HDEL', targetKey(target, 'figures'), 'virtual', 'queuedCost')
  end
  return tonumber(start), owner, cost
end

local function refund(target, owner, start, cost)
  local tags = targetKey(target, 'tags')
  if math.abs(num(redis.call('HGET', tags, owner)) - (start + cost)) < 1e-6 then
    redis.call('HSET', tags, owner, string.format('%.17g', start))
  end
end

local function forgetKeysAfter(id, ms)
  local job = redis.call('HMGET', jobKey(id), 'keys', 'requestHash')
  for hash in string.gmatch(job[1] or '', '%S+') do
    if redis.call('GET', P .. 'key:' .. hash) == id then redis.call('PEXPIRE', P .. 'key:' .. hash, ms) end
  end
  if job[2] and redis.call('GET', P .. 'request:' .. job[2]) == id then
    redis.call('PEXPIRE', P .. 'request:' .. job[2], ms)
  end
end

local apply

-- Moves a job between the target's sets when its public state changes.
local function move(id, target, from, to, reason)
  local key, figures = jobKey(id), targetKey(target, 'figures')
  if from == 'queued' and to ~= 'running' then
    local start, owner, cost = unqueue(id, target)
    if start then refund(target, owner, start, cost) end
  end
  if to == 'running' then
    local own = num(redis.call('HGET', key, 'ownMs'))
    if own == 0 then
      own = num(redis.call('HGET', key, 'cost')) * num(redis.call('HGET', figures, 'unitMs'))
    end
    redis.call('ZADD', targetKey(target, 'running'), NOW + own, id)
    redis.call('ZADD', P .. 'undelivered', NOW, target .. '|' .. id)
    redis.call('HSET', key, 'startedAt', text(NOW))
    if own > 0 then redis.call('HSET', key, 'expectedAt', text(NOW + own)) end
  else
    if from == 'running' then
      redis.call('ZREM', targetKey(target, 'running'), id)
      -- The slot is free when the runtime let go: whoever runs the job says so.
      redis.call('ZADD', targetKey(target, 'releasing'), NOW, id)
    end
    local ttl = num(redis.call('HGET', key, 'ttlMs'))
    redis.call('HSET', key, 'endedAt', text(NOW), 'reason', reason)
    redis.call('HDEL', key, 'expectedAt')
    redis.call('ZREM', P .. 'due', 'expire|' .. id)
    redis.call('HINCRBY', figures, 'ended:' .. to, 1)
    redis.call('PEXPIRE', key, ttl)
    forgetKeysAfter(id, ttl)
    local times = redis.call('HMGET', key, 'createdAt', 'startedAt')
    ended[#ended + 1] = { target, id, to, NOW - num(times[1]), times[2] and NOW - num(times[2]) or -1 }
  end
  changed(target, id, to)
end

-- The one place where a job changes its state; false when the event changes nothing any more.
apply = function(id, event)
  local key = jobKey(id)
  local job = redis.call('HMGET', key, 'life', 'target', 'graceMs')
  if not job[1] then return false end
  local to = TRANSITIONS[job[1]][event]
  if not to then return false end
  local from = publicState(job[1])
  redis.call('HSET', key, 'life', to)
  if not isOrphan(to) then
    redis.call('ZREM', P .. 'due', 'abandon|' .. id)
  elseif num(job[3]) > 0 then
    redis.call('ZADD', P .. 'due', 'NX', NOW + num(job[3]), 'abandon|' .. id)
  end
  local state = publicState(to)
  if state ~= from then move(id, job[2], from, state, event) end
  -- Where nobody can adopt there is nothing to wait for.
  if isOrphan(to) and num(job[3]) == 0 then apply(id, 'abandon') end
  return true
end

-- Gives free slots to those who are next.
local function grant(target)
  local concurrency = num(redis.call('HGET', targetKey(target, 'figures'), 'concurrency'))
  local running, releasing, queue = targetKey(target, 'running'), targetKey(target, 'releasing'), targetKey(target, 'queued')
  while redis.call('ZCARD', running) + redis.call('ZCARD', releasing) < concurrency do
    local first = redis.call('ZRANGE', queue, 0, 0)[1]
    if not first then return end
    local id = string.match(first, '|(.*)$')
    local deadline = redis.call('HGET', jobKey(id), 'deadlineAt')
    if not deadline then
      redis.call('ZREM', queue, first)
    elseif num(deadline) <= NOW then
      apply(id, 'expire')
    else
      local start = unqueue(id, target)
      if redis.call('ZCARD', queue) > 0 then
        redis.call('HSET', targetKey(target, 'figures'), 'virtual', string.format('%.17g', start))
      end
      apply(id, 'start')
      granted[#granted + 1] = { target, id }
    end
  end
end

local function release(target, id)
  redis.call('ZREM', targetKey(target, 'releasing'), id)
  touched[target] = true
end

-- Milliseconds of work that runs now, and until the first of it is done.
local function remaining(target)
  local total, least = 0, nil
  local rows = redis.call('ZRANGE', targetKey(target, 'running'), 0, -1, 'WITHSCORES')
  for index = 2, #rows, 2 do
    local left = math.max(0, tonumber(rows[index]) - NOW)
    total = total + left
    if not least or left < least then least = left end
  end
  return total, least
end

-- How much waits before a job of this virtual start: exact where all cost the same, else by their mean cost.
local function unitsBefore(target, count)
  local waiting = redis.call('ZCARD', targetKey(target, 'queued'))
  if waiting == 0 then return 0 end
  return count / waiting * num(redis.call('HGET', targetKey(target, 'figures'), 'queuedCost'))
end

local function startOf(target, owner)
  return math.max(
    num(redis.call('HGET', targetKey(target, 'figures'), 'virtual')),
    num(redis.call('HGET', targetKey(target, 'tags'), owner))
  )
end

local function snapshot(id)
  local flat = redis.call('HGETALL', jobKey(id))
  if #flat == 0 then return nil end
  local job = {}
  for index = 1, #flat, 2 do job[flat[index]] = flat[index + 1] end
  if publicState(job.life) == 'queued' then
    local rank = redis.call('ZRANK', targetKey(job.target, 'queued'), job.member)
    if rank then
      job.position = rank + 1
      local figures = redis.call('HMGET', targetKey(job.target, 'figures'), 'unitMs', 'concurrency')
      if figures[1] then
        local own = num(job.ownMs)
        if own == 0 then own = num(job.cost) * num(figures[1]) end
        local ahead = remaining(job.target) + unitsBefore(job.target, rank) * num(figures[1])
        job.expectedAt = NOW + ahead / math.max(1, num(figures[2])) + own
      end
    end
  end
  return job
end

local function counts(target)
  local flat = redis.call('HGETALL', targetKey(target, 'figures'))
  local figures = {}
  for index = 1, #flat, 2 do figures[flat[index]] = flat[index + 1] end
  figures.queued = redis.call('ZCARD', targetKey(target, 'queued'))
  figures.running = redis.call('ZCARD', targetKey(target, 'running'))
  figures.releasing = redis.call('ZCARD', targetKey(target, 'releasing'))
  return figures
end

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
  reply.targets = message.targets
  return cjson.encode(reply)
end

local function addLease(id, waiter, leaseMs)
  redis.call('ZADD', P .. 'leases', NOW + leaseMs, id .. '|' .. waiter)
  redis.call('HINCRBY', jobKey(id), 'waiters', 1)
end

local function endLease(id, waiter)
  if redis.call('ZREM', P .. 'leases', id .. '|' .. waiter) == 1
    and redis.call('HINCRBY', jobKey(id), 'waiters', -1) <= 0 then
    apply(id, 'leave')
  end
end

local function rememberKey(id, hash)
  if not hash then return end
  local key = jobKey(id)
  local known = redis.call('HGET', key, 'keys') or ''
  if not string.find(known, hash, 1, true) then redis.call('HSET', key, 'keys', known .. ' ' .. hash) end
  local lasts = math.max(1, num(redis.call('HGET', key, 'deadlineAt')) - NOW) + num(redis.call('HGET', key, 'ttlMs'))
  redis.call('SET', P .. 'key:' .. hash, id, 'PX', text(lasts))
end

-- A job that may be joined under this name: not one that ended without a picture.
local function joinable(name)
  local id = redis.call('GET', name)
  local life = id and redis.call('HGET', jobKey(id), 'life')
  if life and (isLive(life) or life == 'succeeded') then return id, life end
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

-- Joins the job that a submission is a retry of, or may share; else, once `admitted`, makes a new one within the bounds.
commands.submit = function(asked)
  local target, owner = asked.target, asked.owner
  local id, life
  if asked.key then
    id, life = joinable(P .. 'key:' .. asked.key)
    if id and redis.call('HGET', jobKey(id), 'requestHash') ~= asked.requestHash then
      refused(redis.call('HGET', jobKey(id), 'target'), 'conflict')
      return answer({ verdict = 'conflict' })
    end
  end
  if not id then
    id, life = joinable(P .. 'request:' .. asked.requestHash)
    if id and isOrphan(life) then
      if asked.anonymous then id = nil end
    elseif id and (asked.key or not asked.seeded) then
      id = nil
    end
  end
  if id and life == 'succeeded' then return answer({ verdict = 'succeeded', job = snapshot(id) }) end
  if id then
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
    return answer({ verdict = 'joined', job = snapshot(id) })
  end

  local busy = redis.call('ZCARD', targetKey(target, 'running')) + redis.call('ZCARD', targetKey(target, 'releasing'))
  local queued = redis.call('ZCARD', targetKey(target, 'queued'))
  local ofCaller = num(redis.call('HGET', targetKey(target, 'callers'), owner))
  local start = startOf(target, owner)
  local full = (busy >= asked.concurrency or queued > 0)
    and (queued >= asked.queueLimit or ofCaller >= asked.queueLimitOfCaller)
  if full or not asked.admitted then
    local runningMs, nextSlotMs = remaining(target)
    local ahead = redis.call('ZCOUNT', targetKey(target, 'queued'), '-inf', string.format('%.17g', start))
    return answer({
      verdict = full and 'full' or 'new',
      view = {
        busy = busy, queued = queued, queuedOfCaller = ofCaller,
        runningMs = runningMs, nextSlotMs = nextSlotMs, unitsAhead = unitsBefore(target, ahead),
      },
    })
  end

  id = asked.id
  local arrival = redis.call('HINCRBY', targetKey(target, 'figures'), 'admitted', 1)
  local member = string.format('%015.0f|', arrival) .. id
  local deadline = NOW + asked.deadlineMs
  redis.call('HSET', jobKey(id),
    'id', id, 'imageId', asked.imageId, 'owner', owner, 'target', target, 'request', asked.request,
    'requestHash', asked.requestHash, 'requestId', asked.requestId or '', 'life', 'queued/attended',
    'createdAt', text(NOW), 'deadlineAt', text(deadline), 'cost', asked.cost, 'ownMs', asked.ownMs or 0,
    'graceMs', asked.graceMs, 'ttlMs', asked.ttlMs, 'member', member, 'waiters', 0, 'run', 0, 'reruns', 0)
  addLease(id, asked.waiter, asked.leaseMs)
  redis.call('ZADD', P .. 'due', deadline, 'expire|' .. id)
  redis.call('SET', P .. 'request:' .. asked.requestHash, id, 'PX', text(asked.deadlineMs + asked.ttlMs))
  rememberKey(id, asked.key)
  redis.call('ZADD', targetKey(target, 'queued'), string.format('%.17g', start), member)
  local tags = targetKey(target, 'tags')
  redis.call('HSET', tags, owner, string.format('%.17g', start + asked.cost))
  if redis.call('HLEN', tags) > TAGS_KEPT then
    local virtual = num(redis.call('HGET', targetKey(target, 'figures'), 'virtual'))
    local flat = redis.call('HGETALL', tags)
    for index = 1, #flat, 2 do
      if tonumber(flat[index + 1]) <= virtual then redis.call('HDEL', tags, flat[index]) end
    end
  end
  redis.call('HINCRBY', targetKey(target, 'callers'), owner, 1)
  redis.call('HINCRBYFLOAT', targetKey(target, 'figures'), 'queuedCost', asked.cost)
  changed(target, id, 'queued')
  grant(target)
  return answer({ verdict = 'admitted', job = snapshot(id) })
end

-- A refusal that the server decided, for the counts that all servers share.
commands.refuse = function(asked)
  refused(asked.target, asked.code)
  return answer({})
end

-- Its picture was deleted: the next submission makes it anew.
commands.forget = function(asked)
  forgetKeysAfter(asked.id, 0)
  return answer({})
end

commands.get = function(asked)
  return answer({ job = snapshot(asked.id) })
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
  local job = redis.call('HMGET', key, 'life', 'run', 'leaseAt', 'reruns')
  if not job[1] or not isLive(job[1]) then
    release(asked.target, id)
    return answer({ verdict = 'ended' })
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
  redis.call('HSET', key, 'leaseAt', text(NOW + asked.lockMs))
  changed(asked.target, id, 'running')
  return answer({ verdict = 'go', run = run, job = snapshot(id) })
end

local function holds(id, run)
  local job = redis.call('HMGET', jobKey(id), 'life', 'run')
  return job[1] and num(job[2]) == run and publicState(job[1]) == 'running'
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

commands.progress = function(asked)
  if not holds(asked.id, asked.run) then return answer({ lost = { asked.id } }) end
  redis.call('HSET', jobKey(asked.id), 'progress', asked.progress)
  redis.call('PUBLISH', P .. 'events', cjson.encode({ progress = { asked.id, asked.progress } }))
  return answer({ lost = {} })
end

-- The end of a run: finish with its image, fail with its error, or release after an abort. A run that another worker
-- took over changes nothing.
commands.finish = function(asked)
  local id, key = asked.id, jobKey(asked.id)
  local run = redis.call('HGET', key, 'run')
  if run and num(run) ~= asked.run then return answer({ verdict = 'lost' }) end
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
    if asked.unitMs then redis.call('HSET', targetKey(asked.target, 'figures'), 'unitMs', asked.unitMs) end
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

-- What nobody else is sure to do: deadlines, orphans, waiters of dead servers, deliveries that got lost.
commands.sweep = function(asked)
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', P .. 'due', '-inf', NOW, 'LIMIT', 0, SWEEP_AT_MOST)) do
    local event, id = string.match(member, '^(%a+)|(.*)$')
    redis.call('ZREM', P .. 'due', member)
    apply(id, event)
  end
  if asked.leases then
    for _, member in ipairs(redis.call('ZRANGEBYSCORE', P .. 'leases', '-inf', NOW, 'LIMIT', 0, SWEEP_AT_MOST)) do
      local id, waiter = string.match(member, '^([^|]*)|(.*)$')
      endLease(id, waiter)
    end
  end
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
