-- tidy takes consumers off a group that have nothing left to acknowledge and were
-- not heard of for long: processes that were given a new name each.
--
-- KEYS[1] stream   ARGV[1] group, [2] for how long, in ms
local gone = 0
for _, fields in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
  local c = {}
  for i = 1, #fields, 2 do c[fields[i]] = fields[i + 1] end
  if c.pending == 0 and c.idle > tonumber(ARGV[2]) then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], c.name)
    gone = gone + 1
  end
end
return gone
