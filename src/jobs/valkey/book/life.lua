-- The life of a job: its states, its deadlines, its slot, and who waits for it.

local TRANSITIONS = __TRANSITIONS__
-- Jobs that one script starts or drops at most, for each target; what is left over is done by scripts that follow.
local GRANT_AT_MOST = 100
-- In a line of different sizes who leaves moves all later jobs. A script that moved so many begins nothing more like it.
local MOVES_AT_MOST = 2000

-- Whether a target's free slots could not all be given away in this script.
local behind = false
-- A sweep ends many jobs together, see applyDue: none that nobody can adopt ends on its own before that.
local sweeping = false

local function forgetKeysAfter(id, ms)
  local job = redis.call('HMGET', jobKey(id), 'keys', 'requestHash')
  for hash in string.gmatch(job[1] or '', '%S+') do
    if redis.call('GET', P .. 'key:' .. hash) == id then redis.call('PEXPIRE', P .. 'key:' .. hash, ms) end
  end
  if job[2] and redis.call('GET', P .. 'request:' .. job[2]) == id then
    redis.call('PEXPIRE', P .. 'request:' .. job[2], ms)
  end
end

-- A running job is work until the time when it should be finished. The sum of those times is kept, see `remaining`.
local function enterRunning(target, id, ends)
  redis.call('ZADD', targetKey(target, 'running'), text(ends), id)
  redis.call('ZADD', targetKey(target, 'ahead'), text(ends), id)
  redis.call('HINCRBY', targetKey(target, 'figures'), 'endsAhead', text(ends))
end

local function leaveRunning(target, id)
  redis.call('ZREM', targetKey(target, 'running'), id)
  local ends = redis.call('ZSCORE', targetKey(target, 'ahead'), id)
  if not ends then return end
  redis.call('ZREM', targetKey(target, 'ahead'), id)
  redis.call('HINCRBY', targetKey(target, 'figures'), 'endsAhead', text(-tonumber(ends)))
end

-- It runs from now on, for as long as jobs like it take.
local function expect(id, target)
  local key = jobKey(id)
  local own = num(redis.call('HGET', key, 'ownMs'))
  if own == 0 then
    local model = redis.call('HMGET', targetKey(target, 'figures'), 'fixedMs', 'unitMs')
    own = num(model[1]) + num(redis.call('HGET', key, 'cost')) * num(model[2])
  end
  enterRunning(target, id, NOW + own)
  if own > 0 then redis.call('HSET', key, 'expectedAt', text(NOW + own)) end
end

local function finish(id, target, to, reason)
  local key = jobKey(id)
  local ttl = num(redis.call('HGET', key, 'ttlMs'))
  redis.call('HSET', key, 'endedAt', text(NOW), 'reason', reason)
  redis.call('HDEL', key, 'expectedAt')
  redis.call('ZREM', P .. 'due', 'expire|' .. id)
  redis.call('HINCRBY', targetKey(target, 'figures'), 'ended:' .. to, 1)
  redis.call('PEXPIRE', key, ttl)
  forgetKeysAfter(id, ttl)
  local times = redis.call('HMGET', key, 'createdAt', 'startedAt')
  ended[#ended + 1] = { target, id, to, NOW - num(times[1]), times[2] and NOW - num(times[2]) or -1 }
end

-- What the change of a job's public state does to the target's sets.
local function move(id, target, from, to, reason)
  if to == 'running' then
    expect(id, target)
    redis.call('HSET', jobKey(id), 'startedAt', text(NOW))
  else
    if from == 'queued' then
      local job = redis.call('HMGET', jobKey(id), 'line', 'member')
      withdraw(target, job[1], { job[2] })
    else
      leaveRunning(target, id)
      -- The slot is free when the runtime let go: the worker that runs the job says so.
      if redis.call('ZREM', targetKey(target, 'again'), id) == 0 then
        redis.call('ZADD', targetKey(target, 'releasing'), NOW, id)
      end
    end
    finish(id, target, to, reason)
  end
  changed(target, id, to)
end

-- The one place where a job changes its state; false when the event changes nothing any more.
local function apply(id, event)
  local key = jobKey(id)
  local job = redis.call('HMGET', key, 'life', 'target', 'graceMs')
  if not job[1] then return false end
  local to = TRANSITIONS[job[1]][event]
  if not to then return false end
  local from = publicState(job[1])
  redis.call('HSET', key, 'life', to)
  if not isOrphan(to) then
    redis.call('ZREM', P .. 'due', 'abandon|' .. id)
  elseif num(job[3]) > 0 or sweeping then
    redis.call('ZADD', P .. 'due', 'NX', NOW + num(job[3]), 'abandon|' .. id)
  end
  local state = publicState(to)
  if state ~= from then move(id, job[2], from, state, event) end
  -- Where nobody can adopt there is nothing to wait for.
  if isOrphan(to) and num(job[3]) == 0 and not sweeping then apply(id, 'abandon') end
  return true
end

-- Events that are due, { event, id }. Queued jobs that end leave their line together: one by one, each would move all
-- later jobs of a line of different sizes. What would be too much for one script stays due.
local function applyDue(rows)
  local groups, ofLine = {}, {}
  for _, row in ipairs(rows) do
    local job = redis.call('HMGET', jobKey(row[2]), 'life', 'target', 'line', 'member')
    local to = job[1] and TRANSITIONS[job[1]][row[1]]
    local group
    if to and publicState(job[1]) == 'queued' and not isLive(to) then
      local name = job[2] .. '|' .. job[3]
      group = ofLine[name] or { target = job[2], line = job[3], members = {} }
      ofLine[name] = group
      group.members[#group.members + 1] = job[4]
    else
      group = {}
    end
    if #group == 0 then groups[#groups + 1] = group end
    group[#group + 1] = row
  end
  for _, group in ipairs(groups) do
    if moved >= MOVES_AT_MOST then return end
    if group.members then withdraw(group.target, group.line, group.members) end
    for _, row in ipairs(group) do
      redis.call('ZREM', P .. 'due', row[1] .. '|' .. row[2])
      apply(row[2], row[1])
    end
  end
end

-- Drops jobs at the head of a line that will not run: their time is up, or their hash is gone. Returns how many.
local function dropHead(target, line, most)
  local members = {}
  while #members < most do
    local member = redis.call('ZRANGE', jobsKey(target, line), #members, #members)[1]
    if not member or num(redis.call('HGET', jobKey(idOf(member)), 'deadlineAt')) > NOW then break end
    members[#members + 1] = member
  end
  withdraw(target, line, members)
  for _, member in ipairs(members) do apply(idOf(member), 'expire') end
  return #members
end

-- A job that waits for another replica gets a slot of this one, unless its time is up or its hash is gone.
local function goOn(target, id, replica)
  if num(redis.call('HGET', jobKey(id), 'deadlineAt')) > NOW then
    redis.call('ZREM', targetKey(target, 'again'), id)
    leaveRunning(target, id)
    expect(id, target)
    hold(target, id, replica)
    deliver(target, id)
  elseif not apply(id, 'expire') then
    redis.call('ZREM', targetKey(target, 'again'), id)
    leaveRunning(target, id)
  end
end

-- Gives free slots to those who are next. Many may have expired while no server was there, and many slots may be new:
-- what is too much for one script is left to the next one.
local function grant(target)
  local steps = 0
  while isBelowCap(target) do
    local replica = firstFree(target)
    if not replica then return end
    local again, other = nextAgain(target)
    local first = not again and nextInOrder(target)
    if not again and not first then return end
    if steps >= GRANT_AT_MOST or moved >= MOVES_AT_MOST then
      redis.call('SADD', P .. 'behind', target)
      behind = true
      return
    end
    if again then
      goOn(target, again, other)
      steps = steps + 1
    elseif num(redis.call('HGET', jobKey(first.id), 'deadlineAt')) > NOW then
      takeFirst(target, first)
      apply(first.id, 'start')
      hold(target, first.id, replica)
      deliver(target, first.id)
      steps = steps + 1
    else
      steps = steps + dropHead(target, first.line, GRANT_AT_MOST - steps)
    end
  end
end

local function release(target, id)
  redis.call('ZREM', targetKey(target, 'releasing'), id)
  letGo(target, id)
  touched[target] = true
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

-- Whether this worker still has the run.
local function holds(id, run)
  local job = redis.call('HMGET', jobKey(id), 'life', 'run')
  return job[1] and num(job[2]) == run and publicState(job[1]) == 'running'
end
