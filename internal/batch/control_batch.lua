-- control_batch pauses, resumes or cancels a batch.
--
-- KEYS[1]: the account's tag
-- batch: its number
-- command: 'pause', 'resume', 'cancel', or 'close', which cancels the batch even if it is
--   done
-- Returns the batch's status then: 'running', 'paused', 'cancelled' or 'done'; false if
-- there is no such batch. A cancelled batch stays cancelled. A batch that is done has
-- nothing to cancel, and 'cancel' leaves it as it is. The count of refused calls in a
-- row restarts.
--
-- That a batch is paused, or cancelled and not all of its requests have ended, is also a
-- field of the account, which every admission reads.
--
-- uses: keys, clock, feeding, batch_stop, batch_cancel
local batch, command = unpack(ARGV)
local key = batch_key(batch)
if redis.call('EXISTS', key) == 0 then return false end
if redis.call('HGET', key, 'status') == 'cancelled' then return 'cancelled' end
local function sum(...)
  local total = 0
  for _, n in ipairs(redis.call('HMGET', key, ...)) do total = total + tonumber(n or 0) end
  return total
end
if command == 'cancel' and sum('waiting', 'queued', 'calling', 'held') == 0
  and sum('created', 'failed', 'cancelled', 'erased', 'joined') > 0 then return 'done' end
redis.call('HDEL', key, 'reason', 'message', 'refused', 'refused_at')
if command == 'resume' then
  redis.call('HDEL', key, 'status')
  redis.call('HDEL', account_key(), stop_field(batch))
  schedule_feed(batch)
  return 'running'
end
local status = command == 'pause' and 'paused' or 'cancelled'
redis.call('HSET', key, 'status', status)
redis.call('HSET', account_key(), stop_field(batch), status)
if status == 'cancelled' then
  redis.call('ZADD', cancelling_key(), ms(now), batch)
  -- Requests that are retried from now on are not cancelled.
  if redis.call('EXISTS', requeued_key(batch)) == 1 then redis.call('RENAME', requeued_key(batch), cancelled_key(batch)) end
end
return status
