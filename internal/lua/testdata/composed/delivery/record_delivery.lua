-- lua/memo.lua
local delivery_key, pending_key, undelivered_key, clock, memo, now, ms, tag do
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
-- delivery/record_delivery.lua
end
local event_id, attempt, outcome, code, reason, message, answer, retry_after = unpack(ARGV)
local key = delivery_key(event_id)
local known = redis.call('HMGET', key, 'status', 'attempts')
local status = known[1]
if not status then return '' end
if status == 'delivered' or outcome ~= 'taken' and (status ~= 'pending' or known[2] ~= attempt) then return status end
if outcome == 'taken' or outcome == 'give_up' then
  redis.call('ZREM', pending_key(), event_id)
else
  redis.call('ZADD', pending_key(), ms(now + retry_after), event_id)
end
redis.call('HSET', key, 'at', ms(now), 'code', code, 'reason', reason, 'message', message, 'answer', answer)
if outcome == 'taken' then
  status = 'delivered'
  redis.call('HSET', key, 'status', status, 'delivered_at', ms(now))
  redis.call('HDEL', key, 'url', 'body', 'tries', 'given_up_at', 'dropped', 'trace')
  redis.call('ZREM', undelivered_key(), event_id)
elseif outcome == 'give_up' then
  status = 'given_up'
  redis.call('HSET', key, 'status', status, 'given_up_at', ms(now))
  redis.call('ZADD', undelivered_key(), ms(now), event_id)
elseif outcome == 'none' then
  redis.call('HINCRBY', key, 'attempts', -1)
  redis.call('HINCRBY', key, 'tries', -1)
end
return status
