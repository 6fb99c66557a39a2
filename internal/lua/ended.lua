-- The requests by the minute in which they ended, in lists, for retention. A request that
-- has left its end stays in the list; mentions.lua tells in which.
--
-- uses: keys, clock
local function ended_minutes_key() return tag .. ':ended' end
local function ended_key(minute) return tag .. ':ended:' .. minute end

local function minute_of(at) return ms(math.floor(at / 60000)) end

local function list_ended(id, at)
  local minute = minute_of(at)
  redis.call('ZADD', ended_minutes_key(), minute, minute)
  redis.call('RPUSH', ended_key(minute), id)
end

-- unlist_ended removes an id once. An erasure goes through a batch as its requests ended,
-- so that it finds most ids near the head.
local function unlist_ended(id, minute) redis.call('LREM', ended_key(minute), 1, id) end
