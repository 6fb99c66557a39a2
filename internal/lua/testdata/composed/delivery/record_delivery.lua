-- lua/clock.lua
local delivery_key, pending_key, undelivered_key, clock, ms, now, tag do
clock = redis.call('TIME')
now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local now_text = string.format('%.0f', now)
function ms(n)
  if n == now then return now_text end
  return string.format('%.0f', n)
end
-- lua/keys.lua
end do
tag = KEYS[1]
local LANE = { i = 'interactive', b = 'bulk' }
local function record_key(id) return tag .. '/' .. id end
local function old_key(generation, id) return tag .. ':old:' .. generation .. ':' .. id end
local function account_key() return tag .. ':account' end
local function batch_key(number) return tag .. ':batch:' .. number end
local function queued_key(lane) return tag .. ':queued:' .. LANE[lane] end
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
