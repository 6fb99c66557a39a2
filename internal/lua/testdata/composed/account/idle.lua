-- lua/memo.lua
local batch_deadlines_key, deadlines_key, now, queued_key, ms, clock, memo, tag do
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
function queued_key(lane) return QUEUED[lane] end
function deadlines_key() return tag .. ':deadlines' end
-- lua/clock.lua
end do
clock = redis.call('TIME')
now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local TEXT = memo(function(n) return string.format('%.0f', n) end)
function ms(n) return TEXT[n] end
-- lua/batch_deadlines.lua
end do
function batch_deadlines_key() return tag .. ':batch-deadlines' end
-- account/idle.lua
end
local group = unpack(ARGV)
if redis.call('EXISTS', queued_key('i'), queued_key('b'), tag .. ':running', tag .. ':calls', tag .. ':cancelling',
  tag .. ':actions:running', tag .. ':newer') > 0 then return 0 end
if redis.call('XLEN', tag .. ':requests') > 0 then return 0 end
for _, key in ipairs({ deadlines_key(), batch_deadlines_key() }) do
  if redis.call('ZCOUNT', key, '-inf', ms(now)) > 0 then return 0 end
end
if group == '' then return 1 end
local results = tag .. ':results'
if redis.call('EXISTS', tag .. ':pending') > 0 then return 0 end
if redis.call('XLEN', results) == 0 then return 1 end
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', results)) do
  local info = {}
  for i = 1, #flat, 2 do info[flat[i]] = flat[i + 1] end
  if info.name == group then
    local unread = redis.call('XRANGE', results, '(' .. info['last-delivered-id'], '+', 'COUNT', 1)
    return (info.pending == 0 and #unread == 0) and 1 or 0
  end
end
return 0
