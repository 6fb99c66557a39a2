-- The entries of the audit trail by their targets, so that erasing a request does not read
-- the trail. The targets are spread over hashes of a few fields, which take little memory. A
-- field has the first entries of its target; a list has the others, so that adding one to a
-- million costs no more than adding the first.
--
-- uses: keys
local function audit_key() return tag .. ':audit' end
local function audited_key(target) return tag .. ':audited:' .. string.sub(redis.sha1hex(target), 1, 4) end
local function more_audited_key(target) return tag .. ':more-audited:' .. target end

-- target_of returns the target of an entry.
local function target_of(entry)
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'target' then return entry[2][i + 1] end
  end
  return ''
end

local MOST_IN_FIELD = 1000 -- bytes
local function list_audited(target, id)
  if target == '' then return end
  local key, more = audited_key(target), more_audited_key(target)
  if redis.call('RPUSHX', more, id) > 0 then return end
  local known = redis.call('HGET', key, target) or ''
  if #known > MOST_IN_FIELD then redis.call('RPUSH', more, id)
  else redis.call('HSET', key, target, known .. id .. ' ') end
end

-- unlist_audited removes an entry of a target, and those before it, which the trail no longer
-- has.
local function unlist_audited(target, id)
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

-- erase_audited removes the entries of a target from the trail. It returns how many.
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
