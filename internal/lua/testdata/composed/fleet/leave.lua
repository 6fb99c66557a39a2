-- lua/memo.lua
local bundlers_key, memo, tag do
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
-- lua/bundlers.lua
end do
function bundlers_key() return tag .. ':bundlers' end
-- fleet/leave.lua
end
local process = unpack(ARGV)
redis.call('ZREM', tag .. ':workers', process)
redis.call('ZREM', bundlers_key(), process)
redis.call('DEL', tag .. ':handlers:' .. process)
if redis.call('GET', tag .. ':leader') == process then redis.call('DEL', tag .. ':leader') end
return 'ok'
