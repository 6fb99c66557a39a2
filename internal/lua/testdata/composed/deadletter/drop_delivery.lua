-- lua/memo.lua
local delivery_key, undelivered_key, memo, tag do
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
local function account_key() return ACCOUNT end
local function batch_key(number) return tag .. ':batch:' .. number end
local QUEUED = memo(function(lane) return tag .. ':queued:' .. LANE[lane] end)
local function queued_key(lane) return QUEUED[lane] end
local function deadlines_key() return tag .. ':deadlines' end
-- lua/delivery.lua
end do
function delivery_key(event) return tag .. ':delivery:' .. event end
local function deliveries_key(id) return tag .. ':deliveries:' .. id end
local function pending_key() return tag .. ':pending' end
function undelivered_key() return tag .. ':undelivered' end
-- deadletter/drop_delivery.lua
end
local event_id, attempts = unpack(ARGV)
local key = delivery_key(event_id)
local known = redis.call('HMGET', key, 'status', 'attempts')
if known[1] ~= 'given_up' or known[2] ~= attempts then return 0 end
redis.call('HSET', key, 'dropped', 1)
return redis.call('ZREM', undelivered_key(), event_id)
