-- erase_earlier removes earlier generations that ended by a time.
--
-- KEYS[1]: the account's tag
-- ended_by: ms
-- rows: id, generation
--
-- uses: erasing
local ended_by = unpack(ARGV, 1, 1)
for i = 2, #ARGV, 2 do
  local id, generation = unpack(ARGV, i, i + 1)
  erase_earlier(id, generation, tonumber(ended_by))
end
return 1
