-- control pauses, resumes or cancels a batch as a whole.
--
-- ARGV[1] the batch's number   ARGV[2] 'pause', 'resume', 'cancel', or 'close': cancel
-- it whatever is left of it
-- Returns what it is then: 'running', 'paused', 'cancelled' or 'done'; false where
-- there is no such batch. What is cancelled stays so. A batch that is done, so that
-- nothing of it can be cancelled, is left as it is by 'cancel'. What was counted of
-- calls that were refused as wrong restarts.
--
-- What mark has to heed is a field of the account, which it reads anyway: that a
-- batch is paused, or cancelled and not all of its requests have ended yet.
--
-- uses: keys, clock, feeding, batch_stop, batch_cancel
local n, want = ARGV[1], ARGV[2]
local key = batch_key(n)
if redis.call('EXISTS', key) == 0 then return false end
if redis.call('HGET', key, 'status') == 'cancelled' then return 'cancelled' end
local function count(...)
  local sum = 0
  for _, n in ipairs(redis.call('HMGET', key, ...)) do sum = sum + tonumber(n or 0) end
  return sum
end
if want == 'cancel' and count('waiting', 'queued', 'calling', 'held') == 0
  and count('created', 'failed', 'cancelled', 'erased', 'joined') > 0 then return 'done' end
redis.call('HDEL', key, 'reason', 'message', 'refused', 'refused_at')
if want == 'resume' then
  redis.call('HDEL', key, 'status')
  redis.call('HDEL', account_key(), stop_field(n))
  schedule_feed(n)
  return 'running'
end
local status = want == 'pause' and 'paused' or 'cancelled'
redis.call('HSET', key, 'status', status)
redis.call('HSET', account_key(), stop_field(n), status)
if status == 'cancelled' then
  redis.call('ZADD', cancelling_key(), ms(now), n)
  -- What is retried from now on is another matter.
  if redis.call('EXISTS', requeued_key(n)) == 1 then redis.call('RENAME', requeued_key(n), cancelled_key(n)) end
end
return status
