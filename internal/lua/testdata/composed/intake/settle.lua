-- intake/settle.lua

local group, max_rejects, max_reject_bytes = unpack(ARGV, 1, 3)
local accepted, rejected = 0, 0
for i = 4, #ARGV, 4 do
  local id, reason, message, original = unpack(ARGV, i, i + 3)
  redis.call('XACK', KEYS[1], group, id)
  if redis.call('XDEL', KEYS[1], id) == 0 then -- it was settled before
  elseif reason == '' then accepted = accepted + 1
  else
    rejected = rejected + 1
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', max_rejects, '*',
      'reason', reason, 'message', message, 'entry', id, 'original', original)
  end
end
local bytes, budget = rejected > 0 and redis.call('MEMORY', 'USAGE', KEYS[2]) or 0, tonumber(max_reject_bytes)
if bytes > budget then
  redis.call('XTRIM', KEYS[2], 'MAXLEN', '~', math.floor(redis.call('XLEN', KEYS[2]) * budget / bytes), 'LIMIT', 1000)
end
return { accepted, rejected }
