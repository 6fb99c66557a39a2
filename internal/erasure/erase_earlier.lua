-- erase_earlier removes earlier generations that ended by a time.
--
-- KEYS[1]: the account's tag
-- ended_by: ms
-- rows: id, generation
-- Returns the number of generations that it removed.
--
-- uses: keys, record, readable
local ended_by = unpack(ARGV, 1, 1)
local removed = 0
for i = 2, #ARGV, 2 do
  local id, generation = unpack(ARGV, i, i + 1)
  local key = old_key(generation, id)
  local raw = redis.call('GETRANGE', key, 0, HEADER - 1)
  local h = raw ~= '' and not unreadable(raw) and parse_header(raw)
  if h and ENDED[h.state] and h.changed <= tonumber(ended_by) then removed = removed + redis.call('DEL', key) end
end
return removed
