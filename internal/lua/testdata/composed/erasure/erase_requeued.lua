-- lua/memo.lua
local record_key, memo, tag do
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
function record_key(id) return tag .. '/' .. id end
local function old_key(generation, id) return tag .. ':old:' .. generation .. ':' .. id end
local ACCOUNT = tag .. ':account'
local function account_key() return ACCOUNT end
local function batch_key(number) return tag .. ':batch:' .. number end
local QUEUED = memo(function(lane) return tag .. ':queued:' .. LANE[lane] end)
local function queued_key(lane) return QUEUED[lane] end
local function deadlines_key() return tag .. ':deadlines' end
-- erasure/erase_requeued.lua
end
local list, skip, max = unpack(ARGV)
local from = -1 - skip
local ids, removed = redis.call('LRANGE', list, from - max + 1, from), 0
for i, id in ipairs(ids) do
  if id ~= '' and redis.call('EXISTS', record_key(id)) == 0 then
    redis.call('LSET', list, from - #ids + i, '')
    removed = removed + 1
  end
end
return { #ids, removed }
