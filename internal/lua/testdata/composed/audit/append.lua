-- lua/keys.lua
local account_key, list_audited, target_of, unlist_audited, ms, clock, now, audit_key, tag do
tag = KEYS[1]
local LANE = { i = 'interactive', b = 'bulk' }
local function record_key(id) return tag .. '/' .. id end
local function old_key(generation, id) return tag .. ':old:' .. generation .. ':' .. id end
function account_key() return tag .. ':account' end
local function batch_key(number) return tag .. ':batch:' .. number end
local function queued_key(lane) return tag .. ':queued:' .. LANE[lane] end
local function deadlines_key() return tag .. ':deadlines' end
-- lua/clock.lua
end do
clock = redis.call('TIME')
now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local now_text = string.format('%.0f', now)
function ms(n)
  if n == now then return now_text end
  return string.format('%.0f', n)
end
-- lua/audited.lua
end do
function audit_key() return tag .. ':audit' end
local function audited_key(target) return tag .. ':audited:' .. string.sub(redis.sha1hex(target), 1, 4) end
function target_of(entry)
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'target' then return entry[2][i + 1] end
  end
  return ''
end
function list_audited(target, id)
  if target == '' then return end
  local key = audited_key(target)
  redis.call('HSET', key, target, (redis.call('HGET', key, target) or '') .. id .. ' ')
end
function unlist_audited(target, id)
  local key = audited_key(target)
  local known = redis.call('HGET', key, target) or ''
  local _, last = string.find(' ' .. known, ' ' .. id .. ' ', 1, true)
  if not last then return end
  local left = string.sub(known, last)
  if left == '' then redis.call('HDEL', key, target) else redis.call('HSET', key, target, left) end
end
local function erase_audited(target)
  local key, removed = audited_key(target), 0
  local known = redis.call('HGET', key, target)
  if not known then return 0 end
  for id in string.gmatch(known, '%S+') do removed = removed + redis.call('XDEL', audit_key(), id) end
  redis.call('HDEL', key, target)
  return removed
end
-- audit/append.lua
end
local max, key, name, action, target, request, by = unpack(ARGV)
local before = redis.call('XLEN', audit_key())
redis.call('HSETNX', account_key(), 'audit_indexed', before == 0 and 0 or ms(now))
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
