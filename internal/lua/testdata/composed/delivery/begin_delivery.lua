-- lua/memo.lua
local delivery_key, now, pending_key, undelivered_key, ms, clock, memo, tag do
function memo(f)
  return setmetatable({}, { __index = function(results, x)
    local result = f(x)
    if type(x) ~= 'number' or x < 256 or x > 67108864 then results[x] = result end
    return result
  end })
end
-- lua/clock.lua
end do
clock = redis.call('TIME')
now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local TEXT = memo(function(n) return string.format('%.0f', n) end)
function ms(n) return TEXT[n] end
-- lua/keys.lua
end do
tag = KEYS[1]
local LANE = { i = 'interactive', b = 'bulk' }
local function record_key(id) return tag .. '/' .. id end
local function old_key(generation, id) return tag .. ':old:' .. generation .. ':' .. id end
local ACCOUNT = tag .. ':account'
local function account_key() return ACCOUNT end
local function batch_key(number) return tag .. ':batch:' .. number end
local QUEUED = memo(function(lane) return tag .. ':queued:' .. LANE[lane] end)
local function queued_key(lane) return QUEUED[lane] end
local function deadlines_key() return tag .. ':deadlines' end
-- lua/delivery.lua
end do
function delivery_key(event) return tag .. ':delivery:' .. event end
local function deliveries_key(id) return tag .. ':deliveries:' .. id end
function pending_key() return tag .. ':pending' end
function undelivered_key() return tag .. ':undelivered' end
-- delivery/begin_delivery.lua
end
local event_id, restart = unpack(ARGV)
local key = delivery_key(event_id)
local known = redis.call('HMGET', key, 'status', 'attempts')
local status = known[1]
if not status then return { 'none' } end
if status == 'given_up' and restart ~= '' and restart == known[2] then
  status = 'pending'
  redis.call('HSET', key, 'status', status, 'tries', 0)
  redis.call('HDEL', key, 'given_up_at', 'dropped')
  redis.call('ZREM', undelivered_key(), event_id)
end
if status ~= 'pending' then return { status } end
redis.call('ZADD', pending_key(), ms(now), event_id)
redis.call('HINCRBY', key, 'attempts', 1)
redis.call('HINCRBY', key, 'tries', 1)
local out = redis.call('HGETALL', key)
table.insert(out, 1, status)
return out
