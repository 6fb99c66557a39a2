-- lua/memo.lua
local account_key, list_audited, now, target_of, unlist_audited, ms, clock, memo, audit_key, tag do
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
-- lua/audited.lua
end do
function audit_key() return tag .. ':audit' end
local function audited_key(target) return tag .. ':audited:' .. string.sub(redis.sha1hex(target), 1, 4) end
local function more_audited_key(target) return tag .. ':more-audited:' .. target end
function target_of(entry)
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'target' then return entry[2][i + 1] end
  end
  return ''
end
local MOST_IN_FIELD = 1000 -- bytes
function list_audited(target, id)
  if target == '' then return end
  local key, more = audited_key(target), more_audited_key(target)
  if redis.call('RPUSHX', more, id) > 0 then return end
  local known = redis.call('HGET', key, target) or ''
  if #known > MOST_IN_FIELD then redis.call('RPUSH', more, id)
  else redis.call('HSET', key, target, known .. id .. ' ') end
end
function unlist_audited(target, id)
  local key = audited_key(target)
  local known = redis.call('HGET', key, target) or ''
  local _, last = string.find(' ' .. known, ' ' .. id .. ' ', 1, true)
  local left = last and string.sub(known, last)
  if not last then
    local more = more_audited_key(target)
    local at = redis.call('LPOS', more, id)
    if not at then return end
    redis.call('LTRIM', more, at + 1, -1)
    left = ''
  end
  if left == '' then redis.call('HDEL', key, target) else redis.call('HSET', key, target, left) end
end
local AT_ONCE = 1000
local function erase_audited(target)
  local key, more, ids = audited_key(target), more_audited_key(target), {}
  for id in string.gmatch(redis.call('HGET', key, target) or '', '%S+') do ids[#ids + 1] = id end
  local removed = #ids > 0 and redis.call('XDEL', audit_key(), unpack(ids)) or 0
  redis.call('HDEL', key, target)
  repeat
    ids = redis.call('LPOP', more, AT_ONCE)
    if ids then removed = removed + redis.call('XDEL', audit_key(), unpack(ids)) end
  until not ids
  return removed
end
-- audit/append.lua
end
local max, key, name, action, target, request, by = unpack(ARGV)
local before = redis.call('XLEN', audit_key())
redis.call('HSETNX', account_key(), 'audit_indexed', ms(now))
local fields = { 'key', key, 'name', name, 'action', action, 'target', target, 'request', request }
if by ~= '' then fields[#fields + 1], fields[#fields + 2] = 'by', by end
list_audited(target, redis.call('XADD', audit_key(), '*', unpack(fields)))
local MOST = 20 -- that one script removes, in case the limit was larger before
local over = math.min(before + 1 - tonumber(max), MOST)
if over > 0 then
  for _, entry in ipairs(redis.call('XRANGE', audit_key(), '-', '+', 'COUNT', over)) do
    unlist_audited(target_of(entry), entry[1])
    redis.call('XDEL', audit_key(), entry[1])
  end
end
return 1
