-- waive takes a delivery that was given up out of what a person looks through.
-- ARGV[1] event   ARGV[2] its attempts
-- Returns 1, or 0 where it is not there, or was tried again since.
--
-- uses: delivery
local key = delivery_key(ARGV[1])
local known = redis.call('HMGET', key, 'status', 'attempts')
if known[1] ~= 'given_up' or known[2] ~= ARGV[2] then return 0 end
redis.call('HSET', key, 'dropped', 1)
return redis.call('ZREM', undelivered_key(), ARGV[1])
