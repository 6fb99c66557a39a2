-- record_delivery records the outcome of an attempt to deliver an event.
--
-- KEYS[1]: the account's tag
-- event_id
-- attempt: its number
-- outcome: 'taken' (delivered), 'again' (to be tried again), 'give_up', or 'none' (it was
--   no attempt)
-- code: the HTTP status, or 0
-- reason, message
-- answer: what the receiver wrote
-- retry_after: the ms after which the next attempt is due
-- Returns the status of the delivery; '' if there is none. Only a success counts from an
-- attempt that is not the latest.
--
-- uses: clock, delivery
local event_id, attempt, outcome, code, reason, message, answer, retry_after = unpack(ARGV)
local key = delivery_key(event_id)
local known = redis.call('HMGET', key, 'status', 'attempts')
local status = known[1]
if not status then return '' end
if status == 'delivered' or outcome ~= 'taken' and (status ~= 'pending' or known[2] ~= attempt) then return status end
if outcome == 'taken' or outcome == 'give_up' then
  redis.call('ZREM', pending_key(), event_id)
else
  redis.call('ZADD', pending_key(), ms(now + retry_after), event_id)
end
redis.call('HSET', key, 'at', ms(now), 'code', code, 'reason', reason, 'message', message, 'answer', answer)
if outcome == 'taken' then
  status = 'delivered'
  redis.call('HSET', key, 'status', status, 'delivered_at', ms(now))
  redis.call('HDEL', key, 'url', 'body', 'tries', 'given_up_at', 'dropped', 'trace')
  redis.call('ZREM', undelivered_key(), event_id)
elseif outcome == 'give_up' then
  status = 'given_up'
  redis.call('HSET', key, 'status', status, 'given_up_at', ms(now))
  redis.call('ZADD', undelivered_key(), ms(now), event_id)
elseif outcome == 'none' then
  redis.call('HINCRBY', key, 'attempts', -1)
  redis.call('HINCRBY', key, 'tries', -1)
end
return status
