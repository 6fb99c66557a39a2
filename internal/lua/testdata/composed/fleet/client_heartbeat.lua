-- lua/keys.lua
local account_key, ms, clock, now, tag do
tag = KEYS[1]
local LANE = { i = 'interactive', b = 'bulk' }
local function record_key(id) return tag .. '/' .. id end
local function old_key(generation, id) return tag .. ':old:' .. generation .. ':' .. id end
function account_key() return tag .. ':account' end
local function batch_key(number) return tag .. ':batch:' .. number end
local function queued_key(lane) return tag .. ':queued:' .. LANE[lane] end
local function deadlines_key() return tag .. ':deadlines' end
-- lua/clock.lua
end do
clock = redis.call('TIME')
now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local now_text = string.format('%.0f', now)
function ms(n)
  if n == now then return now_text end
  return string.format('%.0f', n)
end
-- fleet/client_heartbeat.lua
end
redis.call('HSET', account_key(), 'served_at', ms(now))
return redis.call('HGET', account_key(), 'id') or ''
