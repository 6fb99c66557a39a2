-- newer lets requests be fed that an older version met and could not read.
-- ARGV[1] how many to look at. Returns how many can be read now.
--
-- uses: keys, readable, feeding
local read = 0
for _, id in ipairs(redis.call('SRANDMEMBER', tag .. ':newer', ARGV[1])) do
  local h, why = load_readable(id)
  if why ~= 'newer' then
    redis.call('SREM', tag .. ':newer', id)
    if h and h.state == 'w' then requeue(h.batch, id) end
    read = read + 1
  end
end
return read
