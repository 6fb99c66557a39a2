-- lua/memo.lua
local delivery_key, clock, memo, pending_key, now, ms, tag do
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
local function undelivered_key() return tag .. ':undelivered' end
-- delivery/stalled_deliveries.lua
end
local overdue_for, max = unpack(ARGV)
local MAX_PAUSE_OF_DELIVERY = 54000000
local ahead = redis.call('ZCOUNT', pending_key(), '(' .. ms(now), '+inf')
if ahead > 0 then
  local from = now % math.max(1, ahead - max + 1)
  local page = redis.call('ZRANGEBYSCORE', pending_key(), '(' .. ms(now), '+inf', 'WITHSCORES', 'LIMIT', ms(from), max)
  for i = 1, #page, 2 do
    local d = redis.call('HMGET', delivery_key(page[i]), 'created_at', 'at')
    local last = math.max(tonumber(d[1] or 0), tonumber(d[2] or 0))
    if last > now or tonumber(page[i + 1]) > last + MAX_PAUSE_OF_DELIVERY then redis.call('ZADD', pending_key(), ms(now), page[i]) end
  end
end
local events = redis.call('ZRANGEBYSCORE', pending_key(), '-inf', ms(now - overdue_for), 'LIMIT', 0, max)
local out = { ms(#events) }
for _, event in ipairs(events) do
  local d = redis.call('HMGET', delivery_key(event), 'status', 'application_id', 'host')
  if d[1] == 'pending' then
    redis.call('ZADD', pending_key(), ms(now), event)
    out[#out + 1], out[#out + 2], out[#out + 3] = event, d[2], d[3]
  else
    redis.call('ZREM', pending_key(), event)
  end
end
return out
