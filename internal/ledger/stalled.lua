-- stalled names pending deliveries that should have been tried for a while, so that
-- the caller can see to it that they have their task.
--
-- ARGV[1] for how many ms they are due   ARGV[2] how many
-- Returns {how many it looked at, event, application id, host ...}. They are looked
-- at again after as long.
local events = redis.call('ZRANGEBYSCORE', pending_key(), '-inf', ms(now - ARGV[1]), 'LIMIT', 0, ARGV[2])
local out = { ms(#events) }
for _, event in ipairs(events) do
  local d = redis.call('HMGET', delivery_key(event), 'status', 'application_id', 'host')
  if d[1] == 'pending' then
    redis.call('ZADD', pending_key(), ms(now), event)
    out[#out + 1], out[#out + 2], out[#out + 3] = event, d[2], d[3]
  else
    redis.call('ZREM', pending_key(), event)
  end
end
return out
