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
-- faceki/store_token.lua
end
local holder, kind, value, lifetime = unpack(ARGV)
local current = redis.call('HGET', KEYS[1], 'holder')
if current and current ~= holder then return 0 end
redis.call('HDEL', KEYS[1], 'holder', 'lease')
if value ~= '' then
  local ends = kind == 'token' and 'until' or 'retry'
  redis.call('HSET', KEYS[1], kind, value, ends, ms(now + lifetime))
  redis.call('PEXPIRE', KEYS[1], lifetime + 3600000)
end
return 1
