-- erase_earlier removes earlier generations that ended by a time. Their events can still be
-- erased with the request.
--
-- KEYS[1]: the account's tag
-- ended_by: ms
-- rows: id, generation
-- Returns the number of generations that it removed.
--
-- uses: keys, record, readable, mentions
local ended_by = unpack(ARGV, 1, 1)
local removed = 0
for i = 2, #ARGV, 2 do
  local id, generation = unpack(ARGV, i, i + 1)
  local key = old_key(generation, id)
  local raw = redis.call('GETRANGE', key, 0, HEADER - 1)
  local h = raw ~= '' and not unreadable(raw) and parse_header(raw)
  if h and ENDED[h.state] and h.changed <= tonumber(ended_by) then
    for entry in string.gmatch(redis.call('GET', key), '"entry":"(%d+%-%d+)"') do mention_event(id, entry) end
    removed = removed + redis.call('DEL', key)
  end
end
return removed
