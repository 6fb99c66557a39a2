-- overdue names requests that should have been taken up for a while, so that
-- the caller can see to it that they have their task.
--
-- ARGV[1] 'i' or 'b'   ARGV[2] for how many ms they are due   ARGV[3] how many
-- Returns ref ... of those that are queued still; others leave the set.
local out = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', queued_key(ARGV[1]), '-inf', ms(now - ARGV[2]), 'LIMIT', 0, ARGV[3])) do
  local h = load(id)
  if h and h.state == 'q' and h.lane == ARGV[1] then
    redis.call('ZADD', queued_key(ARGV[1]), ms(now), id)
    out[#out + 1] = id .. ':' .. h.gen .. ':' .. h.run .. ':' .. h.turn
  else
    redis.call('ZREM', queued_key(ARGV[1]), id)
  end
end
return out
