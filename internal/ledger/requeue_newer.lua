-- requeue_newer feeds requests that an older version found in the feed and could not
-- read.
--
-- KEYS[1]: the account's tag
-- max: the most requests to read
-- Returns the number of requests that can be read now.
--
-- uses: keys, readable, feeding
local max = unpack(ARGV)
local read = 0
for _, id in ipairs(redis.call('SRANDMEMBER', tag .. ':newer', max)) do
  local h, why = load_readable(id)
  if why ~= 'newer' then
    redis.call('SREM', tag .. ':newer', id)
    if h and h.state == 'w' then requeue(h.batch, id) end
    read = read + 1
  end
end
return read
