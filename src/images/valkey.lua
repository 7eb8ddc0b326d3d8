-- Pictures in Valkey: every change of the store, each of them atomic. One script; ARGV[1] names the command.
--
-- Keys, all below the prefix KEYS[1]:
--   picture:<id>    hash    "record" (JSON) and "png"; Valkey itself removes it when it expires
--   entries         hash    id -> "<bytes> <expires at> <place> <owner>": what is left to take back when it did
--   by-age          zset    places of all pictures; all scores are 0, so they sort as text
--   by-expiry       zset    ids by the time of expiry
--   owner:<owner>   zset    places of one owner's pictures, as in by-age
--   bytes           string  what all entries take
-- A place is the time of making, 16 digits, then "." and the id. Times are in milliseconds since 1970 and come from
-- the server that asks. Every picture is added once and removed once, so what a call removes was paid for by a put.

local P, command, NOW = KEYS[1], ARGV[1], tonumber(ARGV[2])
local ENTRIES, BY_AGE, BY_EXPIRY, BYTES = P .. 'entries', P .. 'by-age', P .. 'by-expiry', P .. 'bytes'
-- Expired pictures that one call removes, unless it needs their room: other commands wait meanwhile.
local EXPIRED_AT_ONCE = 100

local function pictureKey(id) return P .. 'picture:' .. id end
local function ownerKey(owner) return P .. 'owner:' .. owner end
local function idOf(place) return string.sub(place, 18) end

local function entryOf(id)
  local bytes, expiresAt, place, owner =
    string.match(redis.call('HGET', ENTRIES, id) or '', '^(%d+) (%d+) (%S+) (%x+)$')
  return bytes and { bytes = bytes, expiresAt = tonumber(expiresAt), place = place, owner = owner }
end

local function remove(id)
  local entry = entryOf(id)
  redis.call('DEL', pictureKey(id))
  redis.call('ZREM', BY_EXPIRY, id)
  if not entry then return end
  redis.call('HDEL', ENTRIES, id)
  redis.call('ZREM', BY_AGE, entry.place)
  redis.call('ZREM', ownerKey(entry.owner), entry.place)
  redis.call('DECRBY', BYTES, entry.bytes)
end

local function removeExpired()
  local ids = redis.call('ZRANGEBYSCORE', BY_EXPIRY, '-inf', ARGV[2], 'LIMIT', 0, EXPIRED_AT_ONCE)
  for _, id in ipairs(ids) do remove(id) end
  return #ids
end

-- The record of a valid picture; false for one that has expired or is not there.
local function recordOf(id, entry)
  return entry and entry.expiresAt > NOW and redis.call('HGET', pictureKey(id), 'record')
end

local commands = {}

-- Returns the record that is stored now: this one, or that of the first writer.
function commands.put(id, record, png, bytes, expiresAt, place, owner, maxBytes)
  local entry = entryOf(id)
  local stored = recordOf(id, entry)
  if stored then return stored end
  if entry then remove(id) end
  local expired = removeExpired()
  local room = tonumber(maxBytes) - tonumber(bytes)
  while tonumber(redis.call('GET', BYTES) or 0) > room do
    -- The expired go first; when the last call left some of them, there are more.
    if expired == EXPIRED_AT_ONCE then
      expired = removeExpired()
    else
      local oldest = redis.call('ZPOPMIN', BY_AGE)[1]
      -- An empty store takes nothing, even where somebody took keys out of it by hand.
      if not oldest then
        redis.call('DEL', BYTES)
        break
      end
      remove(idOf(oldest))
    end
  end
  redis.call('HSET', pictureKey(id), 'record', record, 'png', png)
  redis.call('PEXPIRE', pictureKey(id), string.format('%.0f', math.max(1, tonumber(expiresAt) - NOW)))
  redis.call('HSET', ENTRIES, id, table.concat({ bytes, expiresAt, place, owner }, ' '))
  redis.call('ZADD', BY_AGE, 0, place)
  redis.call('ZADD', BY_EXPIRY, expiresAt, id)
  redis.call('ZADD', ownerKey(owner), 0, place)
  redis.call('INCRBY', BYTES, bytes)
  return record
end

-- Returns 1 when a valid picture was removed.
function commands.delete(id)
  if not recordOf(id, entryOf(id)) then return 0 end
  remove(id)
  return 1
end

-- Returns at most `limit` records, newest first; `before` is a place, empty for the start.
function commands.list(owner, before, limit)
  local records = {}
  local from = before == '' and '+' or '(' .. before
  limit = tonumber(limit)
  while true do
    local places = redis.call('ZREVRANGEBYLEX', ownerKey(owner), from, '-', 'LIMIT', 0, limit)
    for _, place in ipairs(places) do
      local record = recordOf(idOf(place), entryOf(idOf(place)))
      if record then records[#records + 1] = record end
      if #records == limit then return records end
    end
    if #places < limit then return records end
    from = '(' .. places[#places]
  end
end

-- Returns how many expired pictures were removed; 0 when none is left.
commands.sweep = removeExpired

return commands[command](unpack(ARGV, 3))
