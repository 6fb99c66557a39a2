-- remove_idle_consumers removes consumers of a group that have nothing to acknowledge and
-- were idle for long: processes that got a new name at each start.
--
-- KEYS[1]: the stream
-- group
-- min_idle: ms
-- Returns the number of consumers that it removed.
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
