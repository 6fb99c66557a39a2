-- lua/memo.lua
local batch_deadlines_key, batch_key, cancelled_key, cancelling_key, free_numbers_key, joined_key, numbered_key, order_key, account_key, batch_names_key, may_be_empty, requeued_key, running_key, stop_field, UNUSED_FOR, now, perhaps_empty_key, clock, memo, ms, tag do
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
function running_key() return tag .. ':running' end
function requeued_key(batch) return tag .. ':again:' .. batch end
local last_served
local function schedule_feed(batch)
  last_served = last_served or redis.call('HGET', account_key(), 'served') or '0'
  redis.call('ZADD', running_key(), 'NX', last_served, batch)
end
local function requeue(batch, id)
  redis.call('RPUSH', requeued_key(batch), id)
  schedule_feed(batch)
end
-- lua/batch_names.lua
end do
function batch_names_key() return tag .. ':batches' end
function numbered_key() return tag .. ':numbered' end
function free_numbers_key() return tag .. ':free-numbers' end
-- lua/batch_order.lua
end do
function order_key(batch) return tag .. ':order:' .. batch end
-- lua/batch_joined.lua
end do
function joined_key(batch) return tag .. ':joined:' .. batch end
-- lua/batch_deadlines.lua
end do
function batch_deadlines_key() return tag .. ':batch-deadlines' end
-- lua/batch_stop.lua
end do
function stop_field(batch) return 'batch:' .. batch end
-- lua/batch_cancel.lua
end do
function cancelling_key() return tag .. ':cancelling' end
function cancelled_key(batch) return tag .. ':off:' .. batch end
-- lua/batch_empty.lua
end do
function perhaps_empty_key() return tag .. ':perhaps-empty' end
UNUSED_FOR = 86400000
function may_be_empty(batch, at)
  if tonumber(batch) > 0 then redis.call('ZADD', perhaps_empty_key(), ms(at or now), batch) end
end
-- batch/drop_batch.lua
end
local batch, joined, rows_left, due = unpack(ARGV)
local key = batch_key(batch)
local function settle(later)
  if due == '' or redis.call('ZSCORE', perhaps_empty_key(), batch) ~= due then return end
  if later then may_be_empty(batch, later) else redis.call('ZREM', perhaps_empty_key(), batch) end
end
local is = redis.call('HMGET', key, 'name', 'joined', 'written', 'created_at',
  'waiting', 'queued', 'calling', 'held', 'created', 'failed', 'cancelled')
local name, used, requests = is[1], tonumber(is[3] or is[4] or '0'), 0
for i = 5, 11 do requests = requests + math.abs(tonumber(is[i] or '0')) end
if not name or requests > 0 then
  settle()
  return 0
end
if (is[2] or '0') ~= joined then return 0 end -- rows were imported meanwhile
if rows_left == '1' then
  settle()
  return 0
end
if used > now - UNUSED_FOR then
  settle(used + UNUSED_FOR + 1)
  return 0
end
if redis.call('HGET', batch_names_key(), name) == batch then redis.call('HDEL', batch_names_key(), name) end
for _, key in ipairs({ numbered_key(), running_key(), cancelling_key(), batch_deadlines_key(), perhaps_empty_key() }) do
  redis.call('ZREM', key, batch)
end
redis.call('HDEL', account_key(), stop_field(batch))
redis.call('UNLINK', key, order_key(batch), joined_key(batch), requeued_key(batch), cancelled_key(batch))
redis.call('ZADD', free_numbers_key(), ms(now), batch)
return 1
