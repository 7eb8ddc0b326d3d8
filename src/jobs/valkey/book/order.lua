-- Who goes next: start-time fair queuing, as src/jobs/memory/fair-queue.ts does it. A caller's waiting jobs are a line. A
-- line has as many turns as jobs, and its n-th job takes its n-th turn: a job that is taken out leaves its turn to the
-- caller's next job, so the line loses its last turn. Costs are multiples of 1/1024, so that sums are exact in any
-- order, and both backends break ties alike.
--
--   target:<name>:queued        zset  turns by virtual start
--   target:<name>:bit:<n>       zset  the turns of jobs whose cost, in steps, has bit n; by name, see costBefore
--   target:<name>:bits          set   the bits that waiting costs have
--   target:<name>:jobs:<line>   zset  a line's jobs, "<cost>|<id>", by arrival
--   target:<name>:turns:<line>  zset  a line's turns, by arrival
--   target:<name>:mix           hash  "<line>|<cost>" -> how many jobs of this cost are in the line
--   target:<name>:tags          zset  lines by where that caller's next job would start in virtual time
--
-- A turn is "<arrival>|<line>"; <line> names a caller by a hash, because callers' names may hold anything.

-- Costs and virtual times are whole multiples of 1/STEPS.
local STEPS = 1024
-- Callers to forget with each start: more than come with each admission, so that they do not pile up.
local TAGS_AT_MOST = 10
-- Members that one call of a command takes: Lua passes no more than some thousands of arguments.
local MEMBERS_AT_MOST = 1000

-- How many turns this script has moved so far. See MOVES_AT_MOST.
local moved = 0

local function lineOf(owner) return string.sub(redis.sha1hex(owner), 1, 20) end
local function jobsKey(target, line) return targetKey(target, 'jobs:' .. line) end
local function turnsKey(target, line) return targetKey(target, 'turns:' .. line) end
local function bitKey(target, bit) return targetKey(target, 'bit:' .. bit) end
local function costOf(member) return string.match(member, '^[^|]+') end
local function idOf(member) return string.match(member, '|(.*)$') end

-- Where the next job of this caller would start.
local function startOf(target, owner)
  return math.max(
    num(redis.call('HGET', targetKey(target, 'figures'), 'virtual')),
    num(redis.call('ZSCORE', targetKey(target, 'tags'), lineOf(owner)))
  )
end

-- A turn and its virtual start; nil where the line has no such turn. `at` counts from 0; -1 is the last one.
local function turnAt(target, line, at)
  local turn = redis.call('ZRANGE', turnsKey(target, line), at, at)[1]
  if turn then return turn, tonumber(redis.call('ZSCORE', targetKey(target, 'queued'), turn)) end
end

-- Turns with their starts sort by this name, and those that start together by arrival.
local function stepsOf(start) return string.format('%016.0f', start * STEPS) end
local function nameOf(start, turn) return stepsOf(start) .. '|' .. turn end

local function inParts(command, key, list)
  for at = 1, #list, MEMBERS_AT_MOST do
    redis.call(command, key, unpack(list, at, math.min(at + MEMBERS_AT_MOST - 1, #list)))
  end
end

-- What each bit's set gains or loses by these turns, { name, cost }: for each bit the names, or scores and names.
local function byBit(turns, scored)
  local lists = {}
  for _, turn in ipairs(turns) do
    local rest, bit = math.floor(turn[2] * STEPS + 0.5), 0
    while rest > 0 do
      if rest % 2 == 1 then
        local list = lists[bit] or {}
        lists[bit] = list
        if scored then list[#list + 1] = 0 end
        list[#list + 1] = turn[1]
      end
      rest, bit = math.floor(rest / 2), bit + 1
    end
  end
  return lists
end

local function addCosts(target, turns)
  for bit, list in pairs(byBit(turns, true)) do
    inParts('ZADD', bitKey(target, bit), list)
    redis.call('SADD', targetKey(target, 'bits'), bit)
  end
end

local function dropCosts(target, turns)
  for bit, list in pairs(byBit(turns, false)) do
    inParts('ZREM', bitKey(target, bit), list)
    if redis.call('EXISTS', bitKey(target, bit)) == 0 then redis.call('SREM', targetKey(target, 'bits'), bit) end
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
  redis.call('ZADD', targetKey(target, 'tags'), exact(start + job.cost), line)
  addCosts(target, { { nameOf(start, turn), job.cost } })
  return line, member
end

local function dropJob(target, line, member)
  redis.call('ZREM', jobsKey(target, line), member)
  local mix = line .. '|' .. costOf(member)
  if redis.call('HINCRBY', targetKey(target, 'mix'), mix, -1) <= 0 then
    redis.call('HDEL', targetKey(target, 'mix'), mix)
  end
end

local function dropTurn(target, line, turn)
  redis.call('ZREM', targetKey(target, 'queued'), turn)
  redis.call('ZREM', turnsKey(target, line), turn)
end

-- The busy period is over when nothing waits: nobody owes anybody anything, and virtual time begins anew. Returns
-- whether it goes on.
local function settle(target)
  if redis.call('EXISTS', targetKey(target, 'queued')) == 1 then return true end
  redis.call('UNLINK', targetKey(target, 'tags'))
  redis.call('HDEL', targetKey(target, 'figures'), 'virtual')
  return false
end

-- Takes a job out of its line, and a turn that belongs to a job of this cost. Returns whether anything still waits.
local function remove(target, line, member, turn)
  local start = tonumber(redis.call('ZSCORE', targetKey(target, 'queued'), turn))
  dropCosts(target, { { nameOf(start, turn), tonumber(costOf(member)) } })
  dropTurn(target, line, turn)
  dropJob(target, line, member)
  return settle(target)
end

-- The job that goes next: its id, for takeFirst its line, name and turn; nil where nothing waits.
local function nextInOrder(target)
  local turn = redis.call('ZRANGE', targetKey(target, 'queued'), 0, 0)[1]
  if not turn then return nil end
  local line = idOf(turn)
  local member = redis.call('ZRANGE', jobsKey(target, line), 0, 0)[1]
  return { id = idOf(member), line = line, member = member, turn = turn }
end

-- The job that goes next starts: virtual time moves on to the start of its turn. Callers who would start before that
-- are forgotten, as they owe nothing.
local function takeFirst(target, first)
  local start = redis.call('ZSCORE', targetKey(target, 'queued'), first.turn)
  if not remove(target, first.line, first.member, first.turn) then return end
  redis.call('HSET', targetKey(target, 'figures'), 'virtual', start)
  local tags = targetKey(target, 'tags')
  local past = redis.call('ZRANGEBYSCORE', tags, '-inf', start, 'LIMIT', 0, TAGS_AT_MOST)
  if #past > 0 then redis.call('ZREM', tags, unpack(past)) end
end

-- Takes jobs out of a line of different sizes, where every later job takes another turn. `from`: the first one's rank.
local function shift(target, line, from, gone)
  local members = redis.call('ZRANGE', jobsKey(target, line), from, -1)
  local turns = redis.call('ZRANGE', turnsKey(target, line), from, -1)
  local queue = targetKey(target, 'queued')
  local was = tonumber(redis.call('ZSCORE', queue, turns[1]))
  local start, kept, before, after, starts = was, 0, {}, {}, {}
  for index, member in ipairs(members) do
    local cost = tonumber(costOf(member))
    before[index] = { nameOf(was, turns[index]), cost }
    was = was + cost
    if gone[member] then
      dropJob(target, line, member)
    else
      kept = kept + 1
      after[kept] = { nameOf(start, turns[kept]), cost }
      starts[#starts + 1] = exact(start)
      starts[#starts + 1] = turns[kept]
      start = start + cost
    end
  end
  dropCosts(target, before)
  addCosts(target, after)
  inParts('ZADD', queue, starts)
  for index = kept + 1, #turns do dropTurn(target, line, turns[index]) end
  moved = moved + #members
  settle(target)
end

-- Takes out jobs of one line that will not run. They cost their caller nothing: the caller's later jobs move up. For each
-- job O(log n) in a line of one size, else O(later jobs of this caller) for all of them together.
local function withdraw(target, line, members)
  local jobs, tags = jobsKey(target, line), targetKey(target, 'tags')
  local gone, waiting, from, freed = {}, {}, nil, 0
  for _, member in ipairs(members) do
    local rank = redis.call('ZRANK', jobs, member)
    if rank and not gone[member] then
      gone[member] = true
      waiting[#waiting + 1] = member
      from = math.min(from or rank, rank)
      freed = freed + tonumber(costOf(member))
    end
  end
  if not from then return end
  local alike = redis.call('HGET', targetKey(target, 'mix'), line .. '|' .. costOf(waiting[1]))
  if num(alike) == redis.call('ZCARD', jobs) then
    for _, member in ipairs(waiting) do remove(target, line, member, (turnAt(target, line, -1))) end
  else
    shift(target, line, from, gone)
  end
  local tag = redis.call('ZSCORE', tags, line)
  if tag then redis.call('ZADD', tags, exact(tonumber(tag) - freed), line) end
end

-- How many go before a turn; without one, before a new job that would start at `start`.
local function countBefore(target, start, turn)
  local queue = targetKey(target, 'queued')
  return turn and redis.call('ZRANK', queue, turn) or redis.call('ZCOUNT', queue, '-inf', exact(start))
end

-- Cost of everything that goes before a turn; without one, before a new job that would start at `start`. A cost is a sum
-- of powers of two. Each has a set of the turns whose cost it is part of, so that counting those that go before a turn
-- gives the sum in O(log n), however many different costs wait.
local function costBefore(target, start, turn)
  local steps, before = 0, '(' .. (turn and nameOf(start, turn) or stepsOf(start) .. '~')
  for _, bit in ipairs(redis.call('SMEMBERS', targetKey(target, 'bits'))) do
    steps = steps + 2 ^ tonumber(bit) * redis.call('ZLEXCOUNT', bitKey(target, bit), '-', before)
  end
  return steps / STEPS
end
