-- The book of jobs: every change of every job is one call of one script, and so atomic. book.ts joins the parts in this
-- order: base, order, ended, replicas, life, admission, views, runs, commands. ARGV[1] names the command, ARGV[2] holds
-- what it takes, as JSON, ARGV[3] says how many ended jobs are remembered.
--
-- Keys, all below the prefix KEYS[1]:
--   job:<id>                 hash    one job; expires some time after its end
--   key:<hash>               string  idempotency key of a caller -> job id
--   request:<hash>           string  a caller's request -> its latest job id
--   due                      zset    "expire|<id>" and "abandon|<id>" by the time when they happen
--   leases                   zset    "<id>|<waiter>" by the time when the waiter counts as gone
--   undelivered              zset    "<target>|<id>" of slots that no worker has taken yet, by when they were last delivered
--   behind                   set     targets that still have slots to give away
--   target:<name>:running    zset    ids by when they should be finished
--   target:<name>:ahead      zset    those of them of which this time has not come yet
--   target:<name>:releasing  zset    ids that ended while the runtime had not let go yet, by when they ended
--   target:<name>:figures    hash    counts and totals; endsAhead: the sum of the times in `ahead`
--   target:<name>:samples    list    the last finished generations, for servers that start later
-- and those of order.lua, ended.lua and replicas.lua. Messages about changes go to the channel <prefix>events. Times are
-- this server's, in milliseconds.

local P = KEYS[1]
local clock = redis.call('TIME')
local NOW = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- A full Valkey refuses a script's first command that could take memory, and no command after its first write. What ends
-- or goes on with jobs always has room, because only admissions are refused before that: a script that calls this may
-- write all it has to.
local function writeAnyway() redis.call('DEL', P .. 'nothing') end

-- What happened in this call: goes to the caller, and to everybody else as one message.
local changes, ended, granted, touched = {}, {}, {}, {}

local function num(value) return tonumber(value) or 0 end
-- Times have no fraction; costs and virtual times keep every bit.
local function text(value) return string.format('%.0f', value) end
local function exact(value) return string.format('%.17g', value) end
local function jobKey(id) return P .. 'job:' .. id end
local function targetKey(target, part) return P .. 'target:' .. target .. ':' .. part end
local function publicState(life) return string.match(life, '^[^/]+') end
local function isOrphan(life) return string.sub(life, -7) == '/orphan' end
local function isLive(life) return string.find(life, '/', 1, true) ~= nil end

local function changed(target, id, state)
  touched[target] = true
  changes[#changes + 1] = { target, id, state }
end
