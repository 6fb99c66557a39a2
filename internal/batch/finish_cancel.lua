-- finish_cancel ends the cancelling of a batch all of whose requests have ended, or will
-- end with their call. Requests that are retried from then on are fed and called.
--
-- KEYS[1]: the account's tag
-- batch: its number
-- cursor: the number of a chunk after all of its chunks
-- Returns 'ok'.
--
-- uses: keys, feeding, batch_stop, batch_cancel
local batch, cursor = unpack(ARGV)
redis.call('HDEL', account_key(), stop_field(batch))
redis.call('ZREM', cancelling_key(), batch)
redis.call('UNLINK', cancelled_key(batch))
redis.call('HSET', batch_key(batch), 'cursor', cursor)
redis.call('HDEL', batch_key(batch), 'lines', 'calloff')
if redis.call('EXISTS', requeued_key(batch)) == 1 then schedule_feed(batch) end
return 'ok'
