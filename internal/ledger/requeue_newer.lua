-- requeue_newer feeds requests that an older version found in the feed and could not
-- read. If it finds any, this process leads from now on: an older leader would skip them
-- again.
--
-- KEYS[1]: the account's tag
-- process
-- lease: of the leader, ms
-- max: the most requests to read
-- Returns the number of requests that can be read now.
--
-- uses: keys, readable, feeding
local process, lease, max = unpack(ARGV)
local read, requeued = 0, false
for _, id in ipairs(redis.call('SRANDMEMBER', tag .. ':newer', max)) do
  local h, why = load_readable(id)
  if why ~= 'newer' then
    redis.call('SREM', tag .. ':newer', id)
    if h and h.state == 'w' then
      requeue(h.batch, id)
      requeued = true
    end
    read = read + 1
  end
end
if requeued then redis.call('SET', tag .. ':leader', process, 'PX', lease) end
return read
