-- Who goes next: start-time fair queuing, as src/jobs/memory/fair-queue.ts does it. A caller's waiting jobs are a line. A
-- line has as many turns as jobs, and its n-th job takes its n-th turn: a job that is taken out leaves its turn to the
-- caller's next job, so the line loses its last turn. Costs are multiples of 1/1024, so that sums are exact in any
-- order, and both backends break ties alike.
--
--   target:<name>:queued        zset  turns by virtual start
--   target:<name>:size:<cost>   zset  the turns that jobs of this cost will take, by virtual start
--   target:<name>:sizes         set   the costs that wait
--   target:<name>:jobs:<line>   zset  a line's jobs, "<cost>|<id>", by arrival
--   target:<name>:turns:<line>  zset  a line's turns, by arrival
--   target:<name>:mix           hash  "<line>|<cost>" -> how many jobs of this cost are in the line
--   target:<name>:tags          hash  line -> where that caller's next job would start in virtual time
--
-- A turn is "<arrival>|<line>"; <line> names a caller by a hash, because callers' names may hold anything.

-- Callers whose turn is over are forgotten when the queue runs empty, or when there are this many of them.
local TAGS_KEPT = 1000

local function lineOf(owner) return string.sub(redis.sha1hex(owner), 1, 20) end
local function jobsKey(target, line) return targetKey(target, 'jobs:' .. line) end
local function turnsKey(target, line) return targetKey(target, 'turns:' .. line) end
local function sizeKey(target, cost) return targetKey(target, 'size:' .. cost) end
local function costOf(member) return string.match(member, '^[^|]+') end
local function idOf(member) return string.match(member, '|(.*)$') end

-- Where the next job of this caller would start.
local function startOf(target, owner)
  return math.max(
    num(redis.call('HGET', targetKey(target, 'figures'), 'virtual')),
    num(redis.call('HGET', targetKey(target, 'tags'), lineOf(owner)))
  )
end

-- A turn and its virtual start; nil where the line has no such turn. `at` counts from 0.
local function turnAt(target, line, at)
  local turn = redis.call('ZRANGE', turnsKey(target, line), at, at)[1]
  if turn then return turn, tonumber(redis.call('ZSCORE', targetKey(target, 'queued'), turn)) end
end

local function addTurn(target, cost, turn, start)
  redis.call('ZADD', sizeKey(target, cost), exact(start), turn)
  redis.call('SADD', targetKey(target, 'sizes'), cost)
end

local function dropTurn(target, cost, turn)
  redis.call('ZREM', sizeKey(target, cost), turn)
  if redis.call('EXISTS', sizeKey(target, cost)) == 0 then redis.call('SREM', targetKey(target, 'sizes'), cost) end
end

local function forgetTags(target)
  local tags = targetKey(target, 'tags')
  if redis.call('HLEN', tags) <= TAGS_KEPT then return end
  local virtual = num(redis.call('HGET', targetKey(target, 'figures'), 'virtual'))
  local flat = redis.call('HGETALL', tags)
  for index = 1, #flat, 2 do
    if tonumber(flat[index + 1]) <= virtual then redis.call('HDEL', tags, flat[index]) end
  end
end

-- Puts a job at the end of its caller's line; returns the line and the job's name there.
local function enqueue(target, job)
  local start, line, cost = startOf(target, job.owner), lineOf(job.owner), exact(job.cost)
  local turn, member = string.format('%015.0f|%s', job.arrival, line), cost .. '|' .. job.id
  redis.call('ZADD', targetKey(target, 'queued'), exact(start), turn)
  redis.call('ZADD', jobsKey(target, line), job.arrival, member)
  redis.call('ZADD', turnsKey(target, line), job.arrival, turn)
  redis.call('HINCRBY', targetKey(target, 'mix'), line .. '|' .. cost, 1)
  redis.call('HSET', targetKey(target, 'tags'), line, exact(start + job.cost))
  addTurn(target, cost, turn, start)
  forgetTags(target)
  return line, member
end

-- Takes a job out of its line, and a turn that belongs to a job of this cost.
local function remove(target, line, member, turn, cost)
  redis.call('ZREM', targetKey(target, 'queued'), turn)
  redis.call('ZREM', turnsKey(target, line), turn)
  redis.call('ZREM', jobsKey(target, line), member)
  dropTurn(target, cost, turn)
  local mix = line .. '|' .. costOf(member)
  if redis.call('HINCRBY', targetKey(target, 'mix'), mix, -1) <= 0 then
    redis.call('HDEL', targetKey(target, 'mix'), mix)
  end
  if redis.call('EXISTS', targetKey(target, 'queued')) == 0 then
    -- The busy period is over: nobody owes anybody anything, and virtual time begins anew.
    redis.call('DEL', targetKey(target, 'tags'))
    redis.call('HDEL', targetKey(target, 'figures'), 'virtual')
  end
end

-- The job that goes next: its id, for takeFirst its line, name and turn; nil where nothing waits.
local function nextInOrder(target)
  local turn = redis.call('ZRANGE', targetKey(target, 'queued'), 0, 0)[1]
  if not turn then return nil end
  local line = idOf(turn)
  local member = redis.call('ZRANGE', jobsKey(target, line), 0, 0)[1]
  return { id = idOf(member), line = line, member = member, turn = turn }
end

-- The job that goes next starts: virtual time moves on to the start of its turn.
local function takeFirst(target, first)
  local start = redis.call('ZSCORE', targetKey(target, 'queued'), first.turn)
  remove(target, first.line, first.member, first.turn, costOf(first.member))
  if redis.call('EXISTS', targetKey(target, 'queued')) == 1 then
    redis.call('HSET', targetKey(target, 'figures'), 'virtual', start)
  end
end

-- Takes out a job that will not run. It costs its caller nothing: the caller's later jobs move up. In a line of one
-- size that is O(log n), else O(later jobs of this caller).
local function withdraw(target, line, member)
  local rank = redis.call('ZRANK', jobsKey(target, line), member)
  if not rank then return end
  local cost, count = costOf(member), redis.call('ZCARD', jobsKey(target, line))
  local last = redis.call('ZRANGE', jobsKey(target, line), -1, -1)[1]
  if num(redis.call('HGET', targetKey(target, 'mix'), line .. '|' .. cost)) < count then
    local jobs = redis.call('ZRANGE', jobsKey(target, line), rank, -1)
    local turns = redis.call('ZRANGE', turnsKey(target, line), rank, -1)
    local start = tonumber(redis.call('ZSCORE', targetKey(target, 'queued'), turns[1]))
    for index = 2, #jobs do
      local turn, taker = turns[index - 1], costOf(jobs[index])
      redis.call('ZADD', targetKey(target, 'queued'), exact(start), turn)
      dropTurn(target, costOf(jobs[index - 1]), turn)
      addTurn(target, taker, turn, start)
      start = start + tonumber(taker)
    end
  end
  remove(target, line, member, turnAt(target, line, count - 1), costOf(last))
  local tags = targetKey(target, 'tags')
  local tag = redis.call('HGET', tags, line)
  if tag then redis.call('HSET', tags, line, exact(tonumber(tag) - tonumber(cost))) end
end

-- How many go before a turn; without one, before a new job that would start at `start`.
local function countBefore(target, start, turn)
  local queue = targetKey(target, 'queued')
  return turn and redis.call('ZRANK', queue, turn) or redis.call('ZCOUNT', queue, '-inf', exact(start))
end

-- Cost of everything that goes before a turn; without one, before a new job that would start at `start`.
local function costBefore(target, start, turn)
  local queue, sizes = targetKey(target, 'queued'), redis.call('SMEMBERS', targetKey(target, 'sizes'))
  local from = (turn and '(' or '') .. exact(start)
  if #sizes == 1 then
    local count = turn and redis.call('ZRANK', queue, turn) or redis.call('ZCOUNT', queue, '-inf', from)
    return count * tonumber(sizes[1])
  end
  local total = 0
  for _, cost in ipairs(sizes) do
    local size = sizeKey(target, cost)
    total = total + tonumber(cost) * redis.call('ZCOUNT', size, '-inf', from)
    if turn then
      -- Of those that start together, the ones that came first.
      for _, other in ipairs(redis.call('ZRANGEBYSCORE', size, exact(start), exact(start))) do
        if other < turn then total = total + tonumber(cost) end
      end
    end
  end
  return total
end
