-- drop_batch deletes a batch without requests. Its name can be used again at once, and its
-- number after a day if the account has used all numbers.
--
-- KEYS[1]: the account's tag
-- batch: its number
-- joined: how many of its rows joined; all of them are erased
-- unused_since: the batch must not have been imported into after this time, ms
-- Returns 1 if it was deleted, else 0.
--
-- uses: keys, clock, feeding, batch_names, batch_order, batch_joined, batch_deadlines, batch_stop, batch_cancel
local batch, joined, unused_since = unpack(ARGV)
local key = batch_key(batch)
local name = redis.call('HGET', key, 'name')
if not name then return 0 end
for _, n in ipairs(redis.call('HMGET', key, 'waiting', 'queued', 'calling', 'held', 'created', 'failed', 'cancelled')) do
  if tonumber(n or '0') ~= 0 then return 0 end
end
local at = redis.call('HMGET', key, 'joined', 'written', 'created_at')
if (at[1] or '0') ~= joined or tonumber(at[2] or at[3] or '0') > tonumber(unused_since) then return 0 end
if redis.call('HGET', batch_names_key(), name) == batch then redis.call('HDEL', batch_names_key(), name) end
for _, key in ipairs({ numbered_key(), running_key(), cancelling_key(), batch_deadlines_key() }) do redis.call('ZREM', key, batch) end
redis.call('HDEL', account_key(), stop_field(batch))
redis.call('UNLINK', key, order_key(batch), joined_key(batch), requeued_key(batch), cancelled_key(batch))
redis.call('ZADD', free_numbers_key(), ms(now), batch)
return 1
