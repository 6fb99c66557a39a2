-- stalled names pending deliveries that should have been tried for a while, so that
-- the caller can see to it that they have their task.
--
-- ARGV[1] for how many ms they are due   ARGV[2] how many
-- Returns {how many it looked at, event, application id, host ...}. They are looked
-- at again after as long.
--
-- uses: clock, delivery

-- What is due in the future was made or tried before, and waits for 15 h at most (see
-- CallbackPauses), unless it was written while the clock was ahead: then it is due. A
-- page of them is read, another each time.
local LONGEST_PAUSE = 54000000
local ahead = redis.call('ZCOUNT', pending_key(), '(' .. ms(now), '+inf')
if ahead > 0 then
  local from = now % math.max(1, ahead - ARGV[2] + 1)
  local page = redis.call('ZRANGEBYSCORE', pending_key(), '(' .. ms(now), '+inf', 'WITHSCORES', 'LIMIT', ms(from), ARGV[2])
  for i = 1, #page, 2 do
    local d = redis.call('HMGET', delivery_key(page[i]), 'created_at', 'at')
    local last = math.max(tonumber(d[1] or 0), tonumber(d[2] or 0))
    if last > now or tonumber(page[i + 1]) > last + LONGEST_PAUSE then redis.call('ZADD', pending_key(), ms(now), page[i]) end
  end
end

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
