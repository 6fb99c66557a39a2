-- lua/memo.lua
local memo, now, clock, ms do
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
-- faceki/claim_token.lua
end
local holder, lease, max_fault_age = unpack(ARGV)
local token = redis.call('HMGET', KEYS[1], 'token', 'until', 'fault', 'retry', 'asked', 'holder', 'lease', 'due', 'replaces')
local value, valid_until, fault, fault_until, asked, other_holder, leased_until, due, replaces = unpack(token)
local function left(time) return (tonumber(time or 0) or 0) - now end
local ahead = math.max(0, left(asked))
if value and left(valid_until) - ahead > 0 then return { 'token', value, ms(left(valid_until) - ahead) } end
if fault and ahead == 0 and left(fault_until) > 0 and left(fault_until) <= tonumber(max_fault_age) then
  return { 'fault', fault, ms(-left(asked)) }
end
if other_holder and other_holder ~= holder and left(leased_until) > 0 and left(leased_until) <= tonumber(lease) then return { 'wait' } end
if due and left(due) > 0 and left(due) <= tonumber(max_fault_age) then
  return { 'due', ms(left(due)) }
end
redis.call('DEL', KEYS[1])
if replaces then redis.call('HSET', KEYS[1], 'replaces', replaces) end
redis.call('HSET', KEYS[1], 'holder', holder, 'lease', ms(now + lease), 'asked', ms(now))
redis.call('PEXPIRE', KEYS[1], lease + 3600000)
return { 'lease' }
