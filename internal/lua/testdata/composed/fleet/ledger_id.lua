-- lua/memo.lua
local conflicting_kind, account_key, memo, tag do
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
-- lua/upstream_kind.lua
end do
function conflicting_kind(kind)
  local has = redis.call('HGET', account_key(), 'upstream')
  if has then return has ~= kind and has end
  local joined = redis.call('HEXISTS', tag .. ':gate', 'set:n') == 1 or redis.call('EXISTS', tag .. ':workers') == 1
  return joined and kind == 'simulated' and 'unknown'
end
-- fleet/ledger_id.lua
end
local new_id, kind = unpack(ARGV)
local conflict = conflicting_kind(kind)
if conflict then return { 'upstream', conflict } end
redis.call('HSETNX', account_key(), 'id', new_id)
return { 'id', redis.call('HGET', account_key(), 'id') }
