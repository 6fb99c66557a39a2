-- begin begins an attempt to deliver.
--
-- ARGV[1] event   ARGV[2] '', or the attempts after which it was given up: a
-- person, or a replay, wants it tried again from the start
-- Returns {status, field, value ...}; where it is not 'pending' nothing follows.
--
-- uses: clock, delivery
local event, again = ARGV[1], ARGV[2]
local key = delivery_key(event)
local known = redis.call('HMGET', key, 'status', 'attempts')
local status = known[1]
if not status then return { 'none' } end
if status == 'given_up' and again ~= '' and again == known[2] then
  status = 'pending'
  redis.call('HSET', key, 'status', status, 'tries', 0)
  redis.call('HDEL', key, 'given_up_at', 'dropped')
  redis.call('ZREM', undelivered_key(), event)
end
if status ~= 'pending' then return { status } end
redis.call('ZADD', pending_key(), ms(now), event)
redis.call('HINCRBY', key, 'attempts', 1)
redis.call('HINCRBY', key, 'tries', 1)
local out = redis.call('HGETALL', key)
table.insert(out, 1, status)
return out
