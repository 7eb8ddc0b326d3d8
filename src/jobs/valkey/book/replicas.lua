-- The replicas of a target, as its servers see them together, and the slots that jobs hold in them. A grant is a slot of
-- a certain replica: of the least busy one for its size, and among equals of the one that was freed first. What happens
-- to one replica costs the same however many there are.
--
--   target:<name>:seers         zset  servers by the time when what they see counts no more
--   target:<name>:seen          hash  server -> the replicas that it sees, [[id, slots], ...] as JSON
--   target:<name>:replica:<id>  hash  sights: servers that see it; slots; busy: slots that jobs hold; freed: when the last
--                                     one became free or it came, by a counter; ready: slots that count now. It goes with
--                                     its last job
--   target:<name>:ejected       zset  replicas by the time until which they get no jobs
--   target:<name>:ejectors      hash  ejected replica -> the server that said so
--   target:<name>:free          zset  replicas with a free slot, "<freed>|<id>", by the share of their slots that is busy
--   target:<name>:held          hash  job -> the replica of which it holds a slot
--   target:<name>:again         zset  running jobs that wait for another replica, in their order
-- and in target:<name>:figures  slots, replicas: what is ready; cap: most slots at once; concurrency: what follows;
-- scales: set where jobs wait for a first replica; startSince: since when they do; startMs: how long the last start took

-- Jobs of `again` that a script looks at, where the first ones may not have the replica that is free.
local AGAIN_AT_MOST = 100
-- Servers and ejected replicas that one script takes back at most.
local BACK_AT_MOST = 100

local function replicaKey(target, id) return targetKey(target, 'replica:' .. id) end
local function freeName(freed, id) return string.format('%015.0f|%s', num(freed), id) end

local function concurrencyOf(target) return num(redis.call('HGET', targetKey(target, 'figures'), 'concurrency')) end

-- A job begins to wait: where no replica is ready, for the first one.
local function awaitStart(target)
  if concurrencyOf(target) > 0 then return end
  local waits = redis.call('EXISTS', targetKey(target, 'queued'), targetKey(target, 'again')) > 0
  redis.call(waits and 'HSETNX' or 'HSET', targetKey(target, 'figures'), 'startSince', text(NOW))
end

-- Whether jobs wait for the first replica of a target that scales from zero, and for how many milliseconds, by how long
-- the last start took; nil where none was timed.
local function startOfTarget(target)
  local figures = redis.call('HMGET', targetKey(target, 'figures'), 'concurrency', 'scales', 'startSince', 'startMs')
  if num(figures[1]) > 0 or not figures[2] then return false, 0 end
  if not figures[4] then return true, nil end
  return true, math.max(0, num(figures[3] or text(NOW)) + num(figures[4]) - NOW)
end

local function countSlots(target)
  local figures = targetKey(target, 'figures')
  local known = redis.call('HMGET', figures, 'slots', 'cap', 'concurrency')
  local concurrency = num(known[1])
  if known[2] then concurrency = math.min(concurrency, num(known[2])) end
  if known[3] and num(known[3]) == concurrency then return end
  redis.call('HSET', figures, 'concurrency', concurrency)
  touched[target] = true
  local since = redis.call('HGET', figures, 'startSince')
  if concurrency > 0 and since then
    redis.call('HSET', figures, 'startMs', NOW - num(since))
    redis.call('HDEL', figures, 'startSince')
  elseif concurrency == 0 and redis.call('EXISTS', targetKey(target, 'queued')) == 1 then
    awaitStart(target)
  end
end

-- After anything about a replica changed: whether it is ready, and where it stands among the free ones.
local function place(target, id)
  local key, figures = replicaKey(target, id), targetKey(target, 'figures')
  local replica = redis.call('HMGET', key, 'sights', 'slots', 'busy', 'freed', 'ready')
  local sights, busy, was = num(replica[1]), num(replica[3]), num(replica[5])
  local isReady = sights > 0 and not redis.call('ZSCORE', targetKey(target, 'ejected'), id)
  local slots = isReady and num(replica[2]) or 0
  if slots ~= was then
    redis.call('HSET', key, 'ready', slots)
    redis.call('HINCRBY', figures, 'slots', slots - was)
    if slots == 0 or was == 0 then redis.call('HINCRBY', figures, 'replicas', slots == 0 and -1 or 1) end
    countSlots(target)
    touched[target] = true
  end
  if busy < slots then
    redis.call('ZADD', targetKey(target, 'free'), exact(busy / slots), freeName(replica[4], id))
  else
    redis.call('ZREM', targetKey(target, 'free'), freeName(replica[4], id))
  end
  if sights == 0 and busy == 0 then redis.call('DEL', key) end
end

-- It is idle from now on, or less busy.
local function isFreed(target, id)
  redis.call('HSET', replicaKey(target, id), 'freed', redis.call('HINCRBY', targetKey(target, 'figures'), 'freed', 1))
end

local function slotsById(told)
  local slots = {}
  for _, replica in ipairs(told) do slots[replica[1]] = replica[2] end
  return slots
end

-- What a server sees now, as JSON; nil: it is gone. A replica is there while any server sees it. Costs by what changed.
local function sees(target, server, told)
  local seen = targetKey(target, 'seen')
  local before = redis.call('HGET', seen, server)
  if not told then
    redis.call('ZREM', targetKey(target, 'seers'), server)
    redis.call('HDEL', seen, server)
  elseif before ~= told then
    redis.call('HSET', seen, server, told)
  end
  if before == told or not before and not told then return end
  local now = told and cjson.decode(told) or {}
  local had, has = before and slotsById(cjson.decode(before)) or {}, slotsById(now)
  for _, replica in ipairs(now) do
    local id, slots = replica[1], replica[2]
    if had[id] ~= slots then
      redis.call('HSET', replicaKey(target, id), 'slots', slots)
      if not had[id] then
        if not redis.call('HGET', replicaKey(target, id), 'freed') then isFreed(target, id) end
        redis.call('HINCRBY', replicaKey(target, id), 'sights', 1)
        -- Who ejected it takes it back.
        if redis.call('HGET', targetKey(target, 'ejectors'), id) == server then
          redis.call('ZREM', targetKey(target, 'ejected'), id)
          redis.call('HDEL', targetKey(target, 'ejectors'), id)
        end
      end
      place(target, id)
    end
  end
  for id in pairs(had) do
    if not has[id] then
      redis.call('HINCRBY', replicaKey(target, id), 'sights', -1)
      place(target, id)
    end
  end
end

-- Nobody gives jobs to this replica for some time, whoever sees it.
local function eject(target, server, id, forMs)
  local ejected, ends = targetKey(target, 'ejected'), NOW + forMs
  if num(redis.call('ZSCORE', ejected, id)) < ends then
    redis.call('ZADD', ejected, text(ends), id)
    redis.call('HSET', targetKey(target, 'ejectors'), id, server)
  end
  place(target, id)
end

-- Ejected replicas of which the time is over.
local function takeBack(target)
  local ejected = targetKey(target, 'ejected')
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', ejected, '-inf', NOW, 'LIMIT', 0, BACK_AT_MOST)) do
    redis.call('ZREM', ejected, id)
    redis.call('HDEL', targetKey(target, 'ejectors'), id)
    place(target, id)
  end
end

-- Servers that have not said for too long what they see.
local function forgetSeers(target)
  local over = redis.call('ZRANGEBYSCORE', targetKey(target, 'seers'), '-inf', NOW, 'LIMIT', 0, BACK_AT_MOST)
  for _, server in ipairs(over) do sees(target, server, nil) end
end

local function isReady(target, id)
  return id and num(redis.call('HGET', replicaKey(target, id), 'ready')) > 0
end

-- The replica that gets the next job; nil where no slot is free. `but`: not this one.
local function firstFree(target, but)
  for _, name in ipairs(redis.call('ZRANGE', targetKey(target, 'free'), 0, but and 1 or 0)) do
    local id = idOf(name)
    if id ~= but then return id end
  end
end

-- Whether the target's cap leaves room for one more.
local function isBelowCap(target)
  local cap = redis.call('HGET', targetKey(target, 'figures'), 'cap')
  return not cap or redis.call('HLEN', targetKey(target, 'held')) < num(cap)
end

-- A job gets a slot of a replica.
local function hold(target, id, replica)
  redis.call('HSET', targetKey(target, 'held'), id, replica)
  redis.call('HINCRBY', replicaKey(target, replica), 'busy', 1)
  redis.call('HSET', jobKey(id), 'replica', replica, 'heldAt', text(NOW))
  place(target, replica)
end

-- Its slot is free, if it holds one.
local function letGo(target, id)
  local held = targetKey(target, 'held')
  local replica = redis.call('HGET', held, id)
  if not replica then return end
  redis.call('HDEL', held, id)
  local key = replicaKey(target, replica)
  redis.call('ZREM', targetKey(target, 'free'), freeName(redis.call('HGET', key, 'freed'), replica))
  redis.call('HINCRBY', key, 'busy', -1)
  isFreed(target, replica)
  place(target, replica)
  touched[target] = true
end

-- A job that holds a slot goes to a worker. Each grant has a number, so that a delivery of an older one starts nothing.
local function deliver(target, id)
  local grant = redis.call('HINCRBY', jobKey(id), 'grant', 1)
  redis.call('ZADD', P .. 'undelivered', NOW, target .. '|' .. id)
  granted[#granted + 1] = { target, id, redis.call('HGET', jobKey(id), 'replica'), grant }
end

-- A running job waits for another replica, before everything that is queued. It has a new run, which nobody has begun:
-- what the last one still says counts no more.
local function waitAgain(target, id, failedOn)
  local key = jobKey(id)
  letGo(target, id)
  awaitStart(target)
  redis.call('ZADD', targetKey(target, 'again'), redis.call('HINCRBY', targetKey(target, 'figures'), 'again', 1), id)
  redis.call('ZREM', P .. 'undelivered', target .. '|' .. id)
  redis.call('HINCRBY', key, 'run', 1)
  redis.call('HINCRBY', key, 'grant', 1)
  redis.call('HSET', key, 'unbegun', 1, 'failedOn', failedOn)
  redis.call('HDEL', key, 'progress')
  touched[target] = true
end

-- The first job that waits for another replica and may have a free one, and that replica. The one that it failed on is
-- for it only where there is no other.
local function nextAgain(target)
  local best, only = firstFree(target), nil
  if not best then return nil end
  for _, id in ipairs(redis.call('ZRANGE', targetKey(target, 'again'), 0, AGAIN_AT_MOST - 1)) do
    local failedOn = redis.call('HGET', jobKey(id), 'failedOn')
    if failedOn ~= best then return id, best end
    local other = firstFree(target, failedOn)
    if other then return id, other end
    if only == nil then only = num(redis.call('HGET', targetKey(target, 'figures'), 'replicas')) == 1 end
    if only then return id, best end
  end
end
