-- drop_batch deletes a batch of which nothing is left, so that its name can be used
-- again at once, and its number a day later where the account has had all there are.
--
-- ARGV[1] its number   ARGV[2] how many of its rows joined, all of which are erased
-- ARGV[3] it must not have been imported into after this time, in ms
-- Returns 1 where it was deleted; 0 where something of it is left, or came meanwhile.
--
-- uses: keys, clock, feeding, batch_names, batch_order, batch_joined, batch_deadlines, batch_stop, batch_cancel
local n = ARGV[1]
local key = batch_key(n)
local name = redis.call('HGET', key, 'name')
if not name then return 0 end
for _, count in ipairs(redis.call('HMGET', key, 'waiting', 'queued', 'calling', 'held', 'created', 'failed', 'cancelled')) do
  if tonumber(count or '0') ~= 0 then return 0 end
end
local at = redis.call('HMGET', key, 'joined', 'written', 'created_at')
if (at[1] or '0') ~= ARGV[2] or tonumber(at[2] or at[3] or '0') > tonumber(ARGV[3]) then return 0 end
if redis.call('HGET', batch_names_key(), name) == n then redis.call('HDEL', batch_names_key(), name) end
for _, set in ipairs({ numbered_key(), running_key(), cancelling_key(), batch_deadlines_key() }) do redis.call('ZREM', set, n) end
redis.call('HDEL', account_key(), stop_field(n))
redis.call('UNLINK', key, order_key(n), joined_key(n), requeued_key(n), cancelled_key(n))
redis.call('ZADD', free_numbers_key(), ms(now), n)
return 1
