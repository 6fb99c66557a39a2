-- calledoff ends the cancelling of a batch all of whose requests have ended, or
-- will with their call. What is retried from then on is fed and called.
-- ARGV[1] the batch's number   ARGV[2] a chunk after all of its chunks
--
-- uses: keys, feeding, batch_stop, batch_cancel
local n = ARGV[1]
redis.call('HDEL', account_key(), stop_field(n))
redis.call('ZREM', cancelling_key(), n)
redis.call('UNLINK', cancelled_key(n))
redis.call('HSET', batch_key(n), 'cursor', ARGV[2])
redis.call('HDEL', batch_key(n), 'lines', 'calloff')
if redis.call('EXISTS', requeued_key(n)) == 1 then schedule_feed(n) end
return 'ok'
