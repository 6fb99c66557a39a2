-- drop_batch examines a batch that may be empty, and deletes it if it is and nothing was
-- imported into it for a day. Its name can be used again at once, and its number after a day
-- if the account has used all numbers.
--
-- KEYS[1]: the account's tag
-- batch: its number
-- joined: how many of its rows joined
-- rows_left: '1' if one of these rows still has the id of a request
-- due: its entry among the batches that may be empty, ms; '' if it has none. An entry that
--   has changed since then stays, so that the batch is examined again.
-- Returns 1 if it was deleted, else 0.
--
-- uses: keys, clock, feeding, batch_names, batch_order, batch_joined, batch_deadlines, batch_stop, batch_cancel, batch_empty
local batch, joined, rows_left, due = unpack(ARGV)
local key = batch_key(batch)

-- settle removes the entry of the batch, or has it examined at a later time.
local function settle(later)
  if due == '' or redis.call('ZSCORE', perhaps_empty_key(), batch) ~= due then return end
  if later then may_be_empty(batch, later) else redis.call('ZREM', perhaps_empty_key(), batch) end
end

local is = redis.call('HMGET', key, 'name', 'joined', 'written', 'created_at',
  'waiting', 'queued', 'calling', 'held', 'created', 'failed', 'cancelled')
local name, used, requests = is[1], tonumber(is[3] or is[4] or '0'), 0
for i = 5, 11 do requests = requests + math.abs(tonumber(is[i] or '0')) end
if not name or requests > 0 then
  settle()
  return 0
end
if (is[2] or '0') ~= joined then return 0 end -- rows were imported meanwhile
if rows_left == '1' then
  settle()
  return 0
end
if used > now - UNUSED_FOR then
  settle(used + UNUSED_FOR + 1)
  return 0
end
if redis.call('HGET', batch_names_key(), name) == batch then redis.call('HDEL', batch_names_key(), name) end
for _, key in ipairs({ numbered_key(), running_key(), cancelling_key(), batch_deadlines_key(), perhaps_empty_key() }) do
  redis.call('ZREM', key, batch)
end
redis.call('HDEL', account_key(), stop_field(batch))
redis.call('UNLINK', key, order_key(batch), joined_key(batch), requeued_key(batch), cancelled_key(batch))
redis.call('ZADD', free_numbers_key(), ms(now), batch)
return 1
