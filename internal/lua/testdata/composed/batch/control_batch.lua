-- lua/memo.lua
local batch_key, cancelled_key, cancelling_key, now, account_key, ms, requeued_key, schedule_feed, stop_field, clock, memo, tag do
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
-- lua/feeding.lua
end do
local function running_key() return tag .. ':running' end
function requeued_key(batch) return tag .. ':again:' .. batch end
local last_served
function schedule_feed(batch)
  last_served = last_served or redis.call('HGET', account_key(), 'served') or '0'
  redis.call('ZADD', running_key(), 'NX', last_served, batch)
end
local function requeue(batch, id)
  redis.call('RPUSH', requeued_key(batch), id)
  schedule_feed(batch)
end
-- lua/batch_stop.lua
end do
function stop_field(batch) return 'batch:' .. batch end
-- lua/batch_cancel.lua
end do
function cancelling_key() return tag .. ':cancelling' end
function cancelled_key(batch) return tag .. ':off:' .. batch end
-- batch/control_batch.lua
end
local batch, command = unpack(ARGV)
local key = batch_key(batch)
if redis.call('EXISTS', key) == 0 then return false end
if redis.call('HGET', key, 'status') == 'cancelled' then return 'cancelled' end
local function sum(...)
  local total = 0
  for _, n in ipairs(redis.call('HMGET', key, ...)) do total = total + tonumber(n or 0) end
  return total
end
if command == 'cancel' and sum('waiting', 'queued', 'calling', 'held') == 0
  and sum('created', 'failed', 'cancelled', 'erased', 'joined') > 0 then return 'done' end
redis.call('HDEL', key, 'reason', 'message', 'refused', 'refused_at')
if command == 'resume' then
  redis.call('HDEL', key, 'status')
  redis.call('HDEL', account_key(), stop_field(batch))
  schedule_feed(batch)
  return 'running'
end
local status = command == 'pause' and 'paused' or 'cancelled'
redis.call('HSET', key, 'status', status)
redis.call('HSET', account_key(), stop_field(batch), status)
if status == 'cancelled' then
  redis.call('ZADD', cancelling_key(), ms(now), batch)
  if redis.call('EXISTS', requeued_key(batch)) == 1 then redis.call('RENAME', requeued_key(batch), cancelled_key(batch)) end
end
return status
