-- Runs and the replicas that they are on: what servers see, what a worker may begin, and what runs again elsewhere.

-- A server tells which replicas of a target it sees, how many slots may be taken at once, and which replicas it ejected.
-- It says so again before the lease of what it said is over.
local function see(asked)
  local target, figures = asked.target, targetKey(asked.target, 'figures')
  redis.call('ZADD', targetKey(target, 'seers'), NOW + asked.leaseMs, asked.server)
  if asked.cap then redis.call('HSET', figures, 'cap', asked.cap) else redis.call('HDEL', figures, 'cap') end
  if asked.scales then redis.call('HSET', figures, 'scales', 1) else redis.call('HDEL', figures, 'scales') end
  countSlots(target)
  for _, one in ipairs(asked.ejected) do eject(target, asked.server, one.id, one.forMs) end
  sees(target, asked.server, asked.seen ~= '[]' and asked.seen or nil)
end

local function goes(id, run)
  local job = snapshot(id)
  return { verdict = 'go', run = run, job = job, replica = job.replica, heldMs = NOW - num(job.heldAt) }
end

-- The replica of this job left, or was ejected, before the run began: it gets another one, or waits for it. Returns
-- whether it has one.
local function changeReplica(target, id)
  local other = firstFree(target)
  if other then
    letGo(target, id)
    hold(target, id, other)
  else
    waitAgain(target, id, redis.call('HGET', jobKey(id), 'replica'))
  end
  return other
end

-- A replica did not draw the picture, and another one may. again: the job waits for that one, or has it already; told: it
-- has had its runs, and failed; late: it had ended; lost: the job is another worker's.
local function runAgain(asked)
  local id, key, target = asked.id, jobKey(asked.id), asked.target
  local run = redis.call('HGET', key, 'run')
  if run and num(run) ~= asked.run then return 'lost' end
  local verdict = 'late'
  if holds(id, asked.run) then
    if redis.call('HINCRBY', key, 'reruns', 1) <= asked.maxReruns then
      waitAgain(target, id, asked.replica)
      return 'again'
    end
    redis.call('HSET', key, 'error', asked.exhausted)
    apply(id, 'fail')
    verdict = 'told'
  end
  if not run then leaveRunning(target, id) end
  release(target, id)
  return verdict
end
