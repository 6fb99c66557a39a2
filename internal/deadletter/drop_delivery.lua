-- drop_delivery removes a delivery that was given up from the operators' list.
--
-- KEYS[1]: the account's tag
-- event_id
-- attempts: of the delivery
-- Returns 1, or 0 if it is not in the list, or was tried again since.
--
-- uses: delivery
local event_id, attempts = unpack(ARGV)
local key = delivery_key(event_id)
local known = redis.call('HMGET', key, 'status', 'attempts')
if known[1] ~= 'given_up' or known[2] ~= attempts then return 0 end
redis.call('HSET', key, 'dropped', 1)
return redis.call('ZREM', undelivered_key(), event_id)
