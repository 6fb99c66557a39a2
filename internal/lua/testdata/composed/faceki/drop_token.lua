-- lua/memo.lua
local now, memo, clock, ms do
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
-- faceki/drop_token.lua
end
local token, spacing = unpack(ARGV)
local stored, requested, replaces = unpack(redis.call('HMGET', KEYS[1], 'token', 'asked', 'replaces'))
if not stored or stored ~= token then return 0 end
local asked = tonumber(requested or 0) or 0
local recent = now >= asked and now < asked + spacing
if recent and replaces then return 1 end
redis.call('HDEL', KEYS[1], 'token', 'until', 'due')
redis.call('HSET', KEYS[1], 'replaces', '1')
if recent then redis.call('HSET', KEYS[1], 'due', ms(asked + spacing)) end
return 0
