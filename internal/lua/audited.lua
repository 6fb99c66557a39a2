-- The entries of the audit trail by their targets, so that erasing a request does not read
-- the trail. The targets are spread over hashes of a few fields, which take little memory.
--
-- uses: keys
local function audit_key() return tag .. ':audit' end
local function audited_key(target) return tag .. ':audited:' .. string.sub(redis.sha1hex(target), 1, 4) end

-- target_of returns the target of an entry.
local function target_of(entry)
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'target' then return entry[2][i + 1] end
  end
  return ''
end

local function list_audited(target, id)
  if target == '' then return end
  local key = audited_key(target)
  redis.call('HSET', key, target, (redis.call('HGET', key, target) or '') .. id .. ' ')
end

-- unlist_audited removes an entry of a target, and those before it, which the trail no longer
-- has.
local function unlist_audited(target, id)
  local key = audited_key(target)
  local known = redis.call('HGET', key, target) or ''
  local _, last = string.find(' ' .. known, ' ' .. id .. ' ', 1, true)
  if not last then return end
  local left = string.sub(known, last)
  if left == '' then redis.call('HDEL', key, target) else redis.call('HSET', key, target, left) end
end

-- erase_audited removes the entries of a target from the trail. It returns how many.
local function erase_audited(target)
  local key, removed = audited_key(target), 0
  local known = redis.call('HGET', key, target)
  if not known then return 0 end
  for id in string.gmatch(known, '%S+') do removed = removed + redis.call('XDEL', audit_key(), id) end
  redis.call('HDEL', key, target)
  return removed
end
