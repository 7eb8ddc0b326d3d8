-- Jobs that have ended: what is kept of them, how long, and who has to make room. src/jobs/memory/remembered.ts does the
-- same.
--
--   ended          zset    "<id>|<line>" by when the job expires
--   ended:<line>   zset    one caller's ids, in the order in which they ended
--   holders        zset    lines by how many of theirs are remembered
--   endings        string  how many jobs have ended so far
--
-- Valkey keeps a hash in a quarter of the space while none of its values is longer than PIECE bytes. So what is kept of a
-- job that ended goes into a new hash, and longer values into pieces: <field>, <field>|2, <field>|3 and so on.

local REMEMBERED = tonumber(ARGV[3])
local PIECE = 64
-- Jobs that are forgotten with each one that ends, at most: more than one, so that a lower bound holds after a while.
local FORGET_AT_MOST = 10
-- Idempotency keys that one job may have, as MAX_KEYS of src/jobs/ended.ts.
local MAX_KEYS = 4
-- Fields of a job that has ended. Besides, those of its picture (i:...), or else of its request (r:...).
local KEPT = {
  id = true, imageId = true, owner = true, target = true, life = true, createdAt = true, startedAt = true, endedAt = true,
  deadlineAt = true, reason = true, error = true, run = true, grant = true,
}
-- Those of a job with a picture, by which another submission finds it; and of one without.
local KEPT_WITH = { requestHash = true, key1 = true, key2 = true, key3 = true, key4 = true }
local KEPT_WITHOUT = { progress = true }

-- The idempotency keys of a job, as hashes.
local function keysOf(id)
  local keys = redis.call('HMGET', jobKey(id), 'key1', 'key2', 'key3', 'key4')
  while #keys > 0 and not keys[#keys] do keys[#keys] = nil end
  return keys
end

local function forgetName(name, id, ms)
  if redis.call('GET', P .. name) == id then redis.call('PEXPIRE', P .. name, text(ms)) end
end

-- What other submissions find this job by is forgotten after `ms`; without `request`, only its keys.
local function forgetNamesAfter(id, ms)
  for _, hash in ipairs(keysOf(id)) do forgetName('key:' .. hash, id, ms) end
  local hash = redis.call('HGET', jobKey(id), 'requestHash')
  if hash then forgetName('request:' .. hash, id, ms) end
end

local function forget(id, line)
  redis.call('ZREM', P .. 'ended', id .. '|' .. line)
  if redis.call('ZREM', P .. 'ended:' .. line, id) == 1 and num(redis.call('ZINCRBY', P .. 'holders', -1, line)) <= 0 then
    redis.call('ZREM', P .. 'holders', line)
  end
  forgetNamesAfter(id, 0)
  redis.call('UNLINK', jobKey(id))
end

local function forgetExpired(most)
  local expired = redis.call('ZRANGEBYSCORE', P .. 'ended', '-inf', NOW, 'LIMIT', 0, most)
  for _, member in ipairs(expired) do forget(string.match(member, '^([^|]*)|(.*)$')) end
end

-- Beyond the bound the oldest job of whoever has most is forgotten.
local function makeRoom()
  forgetExpired(FORGET_AT_MOST)
  for _ = 1, math.min(FORGET_AT_MOST, redis.call('ZCARD', P .. 'ended') - REMEMBERED) do
    local heaviest = redis.call('ZREVRANGE', P .. 'holders', 0, 0)[1]
    local oldest = heaviest and redis.call('ZRANGE', P .. 'ended:' .. heaviest, 0, 0)[1]
    -- Only where somebody took keys out by hand.
    if not oldest then return end
    forget(oldest, heaviest)
  end
end

-- A job's fields, pieces put together.
local function fieldsOf(id)
  local flat, job = redis.call('HGETALL', jobKey(id)), {}
  for index = 1, #flat, 2 do job[flat[index]] = flat[index + 1] end
  for name, value in pairs(job) do
    local piece = 2
    while job[name .. '|' .. piece] do
      value = value .. job[name .. '|' .. piece]
      job[name .. '|' .. piece] = nil
      piece = piece + 1
    end
    job[name] = value
  end
  return job
end

local function pack(fields, name, value)
  fields[#fields + 1] = name
  fields[#fields + 1] = string.sub(value, 1, PIECE)
  for piece = 2, math.ceil(#value / PIECE) do
    fields[#fields + 1] = name .. '|' .. piece
    fields[#fields + 1] = string.sub(value, (piece - 1) * PIECE + 1, piece * PIECE)
  end
end

-- A job has ended: what nobody asks for any more goes, and the rest stays for its time to live.
-- Returns its fields.
local function remember(id)
  local job, kept = fieldsOf(id), {}
  local ttl, line, mayBeJoined = num(job.ttlMs), lineOf(job.owner), job.life == 'succeeded'
  if not mayBeJoined then
    forgetNamesAfter(id, 0)
  else
    forgetNamesAfter(id, ttl)
    -- Without a seed nobody asks for the same picture.
    if job.seeded ~= '1' then forgetName('request:' .. job.requestHash, id, 0) end
  end
  local facts, more = 'r:', KEPT_WITHOUT
  if mayBeJoined then facts, more = 'i:', KEPT_WITH end
  for name, value in pairs(job) do
    local prefix = string.sub(name, 1, 2)
    if KEPT[name] or prefix == facts or more[name] then pack(kept, name, value) end
  end
  redis.call('DEL', jobKey(id))
  redis.call('HSET', jobKey(id), unpack(kept))
  redis.call('PEXPIRE', jobKey(id), ttl)
  redis.call('ZADD', P .. 'ended', text(NOW + ttl), id .. '|' .. line)
  redis.call('ZADD', P .. 'ended:' .. line, redis.call('INCR', P .. 'endings'), id)
  redis.call('ZINCRBY', P .. 'holders', 1, line)
  makeRoom()
  return job
end
