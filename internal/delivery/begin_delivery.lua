-- begin_delivery begins an attempt to deliver an event.
--
-- KEYS[1]: the account's tag
-- event_id
-- restart: '', or the number of attempts after which the delivery was given up and is to
--   be tried from the beginning, for an operator or a replay
-- Returns {status, field, value, ...}. The delivery's fields follow only if the status is
-- 'pending'; it is 'none' if there is no delivery.
--
-- uses: clock, delivery
local event_id, restart = unpack(ARGV)
local key = delivery_key(event_id)
local known = redis.call('HMGET', key, 'status', 'attempts')
local status = known[1]
if not status then return { 'none' } end
if status == 'given_up' and restart ~= '' and restart == known[2] then
  status = 'pending'
  redis.call('HSET', key, 'status', status, 'tries', 0)
  redis.call('HDEL', key, 'given_up_at', 'dropped')
  redis.call('ZREM', undelivered_key(), event_id)
end
if status ~= 'pending' then return { status } end
redis.call('ZADD', pending_key(), ms(now), event_id)
redis.call('HINCRBY', key, 'attempts', 1)
redis.call('HINCRBY', key, 'tries', 1)
local out = redis.call('HGETALL', key)
table.insert(out, 1, status)
return out
