-- Pictures in Valkey: every change of the store, each of them atomic. One script; ARGV[1] names the command.
--
-- Keys, all below the prefix KEYS[1]:
--   picture:<id>    hash    "record" (JSON) and "png"; Valkey itself removes it when it expires
--   entries         hash    id -> "<bytes> <expires at> <place> <owner>": what is left to take back when it did
--   by-expiry       zset    ids by the time of expiry
--   owner:<owner>   zset    places of one owner's pictures; all scores are 0, so they sort as text
--   weights         zset    owners by what all of their pictures take
--   bytes           string  what all entries take
-- A place is the time of making, 16 digits, then "." and the id. Times are in milliseconds since 1970 and come from
-- the server that asks. Every picture is added once and removed once, so what a call removes was paid for by a put.

local P, command, NOW = KEYS[1], ARGV[1], tonumber(ARGV[2])
local ENTRIES, BY_EXPIRY, WEIGHTS, BYTES = P .. 'entries', P .. 'by-expiry', P .. 'weights', P .. 'bytes'
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
  redis.call('ZREM', ownerKey(entry.owner), entry.place)
  local left = redis.call('ZINCRBY', WEIGHTS, '-' .. entry.bytes, entry.owner)
  if tonumber(left) <= 0 then redis.call('ZREM', WEIGHTS, entry.owner) end
  redis.call('DECRBY', BYTES, entry.bytes)
end

-- Also where somebody took keys of it out by hand.
local function removeAt(owner, place)
  remove(idOf(place))
  redis.call('ZREM', ownerKey(owner), place)
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

-- The owner who holds most, besides one, and what it holds.
local function heaviestBut(owner)
  local two = redis.call('ZREVRANGE', WEIGHTS, 0, 1, 'WITHSCORES')
  if two[1] ~= owner then return two[1], tonumber(two[2] or 0) end
  return two[3], tonumber(two[4] or 0)
end

-- True where others who hold more than `share` could give `missing` bytes without falling below it by more than a picture.
local function canGive(missing, but, share)
  local rank = 0
  while missing > 0 do
    local owner, held = unpack(redis.call('ZREVRANGE', WEIGHTS, rank, rank, 'WITHSCORES'))
    held = tonumber(held or 0)
    if held <= share then return false end
    local oldest = 0
    while owner ~= but and held > share and missing > 0 do
      local place = redis.call('ZRANGE', ownerKey(owner), oldest, oldest)[1]
      local entry = place and entryOf(idOf(place))
      if not entry then break end
      held, missing, oldest = held - entry.bytes, missing - entry.bytes, oldest + 1
    end
    rank = rank + 1
  end
  return true
end

-- Makes room as `makeRoom` in catalogue.ts does, which says how. Returns how many valid pictures went; false: no room.
local function makeRoom(bytes, owner, maxBytes)
  local function missing() return tonumber(redis.call('GET', BYTES) or 0) + bytes - maxBytes end
  local function ownBytes() return tonumber(redis.call('ZSCORE', WEIGHTS, owner) or 0) end
  local expired = removeExpired()
  while expired == EXPIRED_AT_ONCE and missing() > 0 do expired = removeExpired() end
  if missing() <= 0 then return 0 end

  local own, removed = ownBytes(), 0
  local share = maxBytes / (redis.call('ZCARD', WEIGHTS) + (own > 0 and 0 or 1))
  if bytes > share and not canGive(missing() - own, owner, share) then return false end
  while missing() > 0 do
    own = ownBytes()
    local other, held = heaviestBut(owner)
    local heaviest = own > 0 and own + bytes >= held and owner or other
    if not heaviest then
      -- An empty store takes nothing.
      redis.call('DEL', BYTES)
      break
    end
    local oldest = redis.call('ZRANGE', ownerKey(heaviest), 0, 0)[1]
    if oldest then
      removeAt(heaviest, oldest)
      removed = removed + 1
    else
      redis.call('ZREM', WEIGHTS, heaviest)
    end
  end
  return removed
end

local commands = {}

-- Returns the record that is stored now, this one or that of the first writer, and how many valid pictures went for it;
-- the record is nil where there is no room.
function commands.put(id, record, png, bytes, expiresAt, place, owner, maxBytes)
  local entry = entryOf(id)
  local stored = recordOf(id, entry)
  if stored then return { stored, 0 } end
  if entry then remove(id) end
  local removed = makeRoom(tonumber(bytes), owner, tonumber(maxBytes))
  if not removed then return { false, 0 } end
  redis.call('HSET', pictureKey(id), 'record', record, 'png', png)
  redis.call('PEXPIRE', pictureKey(id), string.format('%.0f', math.max(1, tonumber(expiresAt) - NOW)))
  redis.call('HSET', ENTRIES, id, table.concat({ bytes, expiresAt, place, owner }, ' '))
  redis.call('ZADD', BY_EXPIRY, expiresAt, id)
  redis.call('ZADD', ownerKey(owner), 0, place)
  redis.call('ZINCRBY', WEIGHTS, bytes, owner)
  redis.call('INCRBY', BYTES, bytes)
  return { record, removed }
end

-- Returns 1 when a valid picture was removed.
function commands.delete(id)
  if not recordOf(id, entryOf(id)) then return 0 end
  remove(id)
  return 1
end

-- Returns at most `limit` records, newest first, and the place to go on from; it is empty after the last picture. `before`
-- is a place, empty for the start. What has expired is removed on the way, so that it is passed over once; a call that
-- meets many of them returns early.
function commands.list(owner, before, limit)
  local records, expired = {}, 0
  limit = tonumber(limit)
  repeat
    local from = before == '' and '+' or '(' .. before
    local wanted = limit - #records
    local places = redis.call('ZREVRANGEBYLEX', ownerKey(owner), from, '-', 'LIMIT', 0, wanted)
    for _, place in ipairs(places) do
      local record = recordOf(idOf(place), entryOf(idOf(place)))
      if record then
        records[#records + 1] = record
      else
        removeAt(owner, place)
        expired = expired + 1
      end
    end
    if #places < wanted then return { records, '' } end
    before = places[#places]
  until #records == limit or expired >= EXPIRED_AT_ONCE
  return { records, before }
end

-- Returns how many expired pictures were removed; 0 when none is left.
commands.sweep = removeExpired

return commands[command](unpack(ARGV, 3))
