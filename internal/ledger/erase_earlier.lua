-- bygone takes earlier generations away that had ended by a time.
-- ARGV[1] that time, in ms, then id, generation, ...
-- Returns how many went.
--
-- uses: keys, record, readable
local gone = 0
for i = 2, #ARGV, 2 do
  local key = old_key(ARGV[i + 1], ARGV[i])
  local raw = redis.call('GETRANGE', key, 0, HEADER - 1)
  local h = raw ~= '' and not unreadable(raw) and parse(raw)
  if h and ENDED[h.state] and h.changed <= tonumber(ARGV[1]) then gone = gone + redis.call('DEL', key) end
end
return gone
