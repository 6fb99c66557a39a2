-- reply records what came of an attempt to deliver.
--
-- ARGV[1] event, [2] attempt
-- ARGV[3] 'taken', 'again', 'give_up', or 'none': it was no attempt
-- ARGV[4] HTTP status or 0, [5] reason, [6] message, [7] what the receiver wrote
-- ARGV[8] after how many ms it is tried again
-- Returns the status of the delivery; '' where it is gone. Only a success is taken
-- from an attempt that is not the latest.
--
-- uses: clock, delivery
local event, what = ARGV[1], ARGV[3]
local key = delivery_key(event)
local known = redis.call('HMGET', key, 'status', 'attempts')
local status = known[1]
if not status then return '' end
if status == 'delivered' or what ~= 'taken' and (status ~= 'pending' or known[2] ~= ARGV[2]) then return status end
if what == 'taken' or what == 'give_up' then
  redis.call('ZREM', pending_key(), event)
else
  redis.call('ZADD', pending_key(), ms(now + ARGV[8]), event)
end
redis.call('HSET', key, 'at', ms(now), 'code', ARGV[4], 'reason', ARGV[5], 'message', ARGV[6], 'answer', ARGV[7])
if what == 'taken' then
  status = 'delivered'
  redis.call('HSET', key, 'status', status, 'delivered_at', ms(now))
  redis.call('HDEL', key, 'url', 'body', 'tries', 'given_up_at', 'dropped')
  redis.call('ZREM', undelivered_key(), event)
elseif what == 'give_up' then
  status = 'given_up'
  redis.call('HSET', key, 'status', status, 'given_up_at', ms(now))
  redis.call('ZADD', undelivered_key(), ms(now), event)
elseif what == 'none' then
  redis.call('HINCRBY', key, 'attempts', -1)
  redis.call('HINCRBY', key, 'tries', -1)
end
return status
