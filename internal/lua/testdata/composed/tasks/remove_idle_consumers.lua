-- tasks/remove_idle_consumers.lua

local group, min_idle = unpack(ARGV)
local removed = 0
for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], group)) do
  local c = {}
  for i = 1, #fields, 2 do c[fields[i]] = fields[i + 1] end
  if c.pending == 0 and c.idle > tonumber(min_idle) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], group, c.name)
    removed = removed + 1
  end
end
return removed
