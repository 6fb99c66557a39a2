-- lua/clock.lua
local clock, ms, now do
clock = redis.call('TIME')
now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local now_text = string.format('%.0f', now)
function ms(n)
  if n == now then return now_text end
  return string.format('%.0f', n)
end
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
