-- Token buckets that all servers share. KEYS: one hash per counter. ARGV: the limit per minute, then what each counter
-- spent since its server asked last. Answers what is left of each, below 0 where servers let more through than there was:
-- that debt comes first, so in the long run no more passes than the limit.
local seconds, microseconds = unpack(redis.call('TIME'))
local now = seconds * 1000 + microseconds / 1000
local most = tonumber(ARGV[1])
local perMs = most / 60000
local lefts = {}
for index, key in ipairs(KEYS) do
  local left, at = unpack(redis.call('HMGET', key, 'left', 'at'))
  left = left and math.min(most, left + math.max(0, now - at) * perMs) or most
  left = left - ARGV[index + 1]
  redis.call('HSET', key, 'left', string.format('%.3f', left), 'at', string.format('%.3f', now))
  -- A full bucket need not be remembered.
  redis.call('PEXPIRE', key, math.ceil((most - left) / perMs))
  lefts[index] = string.format('%.3f', left)
end
return lefts
