-- What a target and a job look like now.

-- Milliseconds of work that runs now, and until the first of it is done. A job that should have been finished counts as
-- none: it leaves the sum at the first look after that time.
local function remaining(target)
  local ahead, sum = targetKey(target, 'ahead'), 0
  local over = redis.call('ZRANGEBYSCORE', ahead, '-inf', NOW, 'WITHSCORES')
  if #over > 0 then
    for index = 2, #over, 2 do sum = sum + tonumber(over[index]) end
    redis.call('HINCRBY', targetKey(target, 'figures'), 'endsAhead', text(-sum))
    redis.call('ZREMRANGEBYSCORE', ahead, '-inf', NOW)
  end
  local total = num(redis.call('HGET', targetKey(target, 'figures'), 'endsAhead')) - redis.call('ZCARD', ahead) * NOW
  local first = redis.call('ZRANGE', targetKey(target, 'running'), 0, 0, 'WITHSCORES')
  return total, first[2] and math.max(0, tonumber(first[2]) - NOW)
end

-- What every queued job of a target waits for.
local function outlookOf(target)
  local figures = redis.call('HMGET', targetKey(target, 'figures'), 'fixedMs', 'unitMs', 'reach', 'concurrency')
  local isStarting, startMs = startOfTarget(target)
  if not figures[1] then return { isStarting = isStarting } end
  return {
    isStarting = isStarting, startMs = startMs,
    model = { fixedMs = num(figures[1]), unitMs = num(figures[2]), reach = num(figures[3]) },
    concurrency = math.max(1, num(figures[4])), runningMs = (remaining(target)),
  }
end

-- A job as it is now, with its place in the queue. `outlooks` keeps what is the same for all jobs of a target.
local function snapshot(id, outlooks)
  local flat = redis.call('HGETALL', jobKey(id))
  if #flat == 0 then return nil end
  local job = {}
  for index = 1, #flat, 2 do job[flat[index]] = flat[index + 1] end
  if publicState(job.life) ~= 'queued' then return job end
  local turn, start = turnAt(job.target, job.line, redis.call('ZRANK', jobsKey(job.target, job.line), job.member))
  if not turn then return job end
  job.position = redis.call('ZRANK', targetKey(job.target, 'queued'), turn) + 1
  local outlook = outlooks and outlooks[job.target] or outlookOf(job.target)
  if outlooks then outlooks[job.target] = outlook end
  if outlook.isStarting then job.starting = '1' end
  local model = outlook.startMs and outlook.model
  local ahead = model and aheadOf(model, job.position - 1, costBefore(job.target, start, turn))
  if ahead then
    local own = num(job.ownMs)
    if own == 0 then own = model.fixedMs + num(job.cost) * model.unitMs end
    job.expectedAt = NOW + outlook.startMs + (outlook.runningMs + ahead) / outlook.concurrency + own
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
