-- lua/memo.lua
local batch_deadlines_key, numbered_key, account_key, free_numbers_key, UNUSED_FOR, batch_names_key, batch_number, may_be_empty, memo, clock, batch_key, now, ms, tag do
function memo(f)
  return setmetatable({}, { __index = function(results, x)
    local result = f(x)
    if type(x) ~= 'number' or x < 256 or x > 67108864 then results[x] = result end
    return result
  end })
end
-- lua/keys.lua
end do
tag = KEYS[1]
local LANE = { i = 'interactive', b = 'bulk' }
local function record_key(id) return tag .. '/' .. id end
local function old_key(generation, id) return tag .. ':old:' .. generation .. ':' .. id end
local ACCOUNT = tag .. ':account'
function account_key() return ACCOUNT end
function batch_key(number) return tag .. ':batch:' .. number end
local QUEUED = memo(function(lane) return tag .. ':queued:' .. LANE[lane] end)
local function queued_key(lane) return QUEUED[lane] end
local function deadlines_key() return tag .. ':deadlines' end
-- lua/clock.lua
end do
clock = redis.call('TIME')
now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local TEXT = memo(function(n) return string.format('%.0f', n) end)
function ms(n) return TEXT[n] end
-- lua/batch_names.lua
end do
function batch_names_key() return tag .. ':batches' end
function numbered_key() return tag .. ':numbered' end
function free_numbers_key() return tag .. ':free-numbers' end
-- lua/batch_empty.lua
end do
local function perhaps_empty_key() return tag .. ':perhaps-empty' end
UNUSED_FOR = 86400000
function may_be_empty(batch, at)
  if tonumber(batch) > 0 then redis.call('ZADD', perhaps_empty_key(), ms(at or now), batch) end
end
-- lua/batch_number.lua
end do
local function new_number()
  if tonumber(redis.call('HGET', account_key(), 'batches') or '0') < 999999 then
    return redis.call('HINCRBY', account_key(), 'batches', 1)
  end
  local free = redis.call('ZRANGEBYSCORE', free_numbers_key(), '-inf', ms(now - 86400000), 'LIMIT', 0, 1)[1]
  if not free then
    error('the account has 999999 batches, the most that it can have; forget some: they are deleted within a day, and their numbers are free a day later', 0)
  end
  redis.call('ZREM', free_numbers_key(), free)
  return tonumber(free)
end
function batch_number(name)
  local number = redis.call('HGET', batch_names_key(), name)
  if not number then
    number = new_number()
    redis.call('HSET', batch_names_key(), name, number)
    redis.call('ZADD', numbered_key(), number, number)
    redis.call('HSET', batch_key(number), 'name', name, 'created_at', ms(now), 'cursor', 0)
    may_be_empty(number, now + UNUSED_FOR)
  end
  return tonumber(number)
end
-- lua/batch_deadlines.lua
end do
function batch_deadlines_key() return tag .. ':batch-deadlines' end
-- tasks/open_batch.lua
end
local name, options, not_after, api_key, trace = unpack(ARGV)
local fresh = redis.call('HEXISTS', batch_names_key(), name) == 0
local number = batch_number(name)
if fresh and options ~= '{}' then redis.call('HSET', batch_key(number), 'options', options) end
if fresh and not_after ~= '' then
  redis.call('HSET', batch_key(number), 'not_after', not_after)
  redis.call('ZADD', batch_deadlines_key(), not_after, number)
end
if fresh and api_key ~= '' then redis.call('HSET', batch_key(number), 'by', api_key) end
if fresh and trace ~= '' then redis.call('HSET', batch_key(number), 'trace', trace) end
local made = redis.call('HMGET', batch_key(number), 'options', 'by')
redis.call('HSET', batch_key(number), 'written', ms(now))
if not fresh then may_be_empty(number, now + UNUSED_FOR) end
return { ms(number), made[1] or '', ms(now), made[2] or '' }
