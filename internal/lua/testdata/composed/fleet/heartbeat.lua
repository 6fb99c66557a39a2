-- lua/memo.lua
local account_key, bundlers_key, now, clock, memo, ms, tag do
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
local function batch_key(number) return tag .. ':batch:' .. number end
local QUEUED = memo(function(lane) return tag .. ':queued:' .. LANE[lane] end)
local function queued_key(lane) return QUEUED[lane] end
local function deadlines_key() return tag .. ':deadlines' end
-- lua/clock.lua
end do
clock = redis.call('TIME')
now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local TEXT = memo(function(n) return string.format('%.0f', n) end)
function ms(n) return TEXT[n] end
-- lua/bundlers.lua
end do
function bundlers_key() return tag .. ':bundlers' end
-- fleet/heartbeat.lua
end
local process, forget_after, handlers_ttl, ledger_id = unpack(ARGV, 1, 4)
if redis.call('HGET', account_key(), 'id') ~= ledger_id then return 0 end
local workers, handlers = tag .. ':workers', tag .. ':handlers:' .. process
for _, key in ipairs({ workers, bundlers_key() }) do
  redis.call('ZADD', key, ms(now), process)
  redis.call('ZREMRANGEBYSCORE', key, 1, ms(now - forget_after))
end
redis.call('DEL', handlers)
local turns = {}
for i = 5, #ARGV do
  local turn = unpack(ARGV, i, i)
  turns[#turns + 1] = turn
end
for i = 1, #turns, 1000 do
  redis.call('SADD', handlers, unpack(turns, i, math.min(i + 999, #turns)))
end
if #turns > 0 then redis.call('PEXPIRE', handlers, handlers_ttl) end
return now
