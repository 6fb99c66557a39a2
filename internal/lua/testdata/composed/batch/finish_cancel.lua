-- lua/memo.lua
local cancelled_key, cancelling_key, account_key, batch_key, requeued_key, stop_field, memo, schedule_feed, tag do
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
-- batch/finish_cancel.lua
end
local batch, cursor = unpack(ARGV)
redis.call('HDEL', account_key(), stop_field(batch))
redis.call('ZREM', cancelling_key(), batch)
redis.call('UNLINK', cancelled_key(batch))
redis.call('HSET', batch_key(batch), 'cursor', cursor)
redis.call('HDEL', batch_key(batch), 'lines', 'calloff')
if redis.call('EXISTS', requeued_key(batch)) == 1 then schedule_feed(batch) end
return 'ok'
