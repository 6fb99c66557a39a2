-- The number of a batch, which its requests' headers hold.
--
-- uses: keys, clock, batch_names, batch_empty

-- new_number returns the number of a new batch: the next one or, if the header has no
-- room for more, that of the batch that was deleted first, more than a day ago. Until
-- then another process may still use the number for the deleted batch.
local function new_number()
  if tonumber(redis.call('HGET', account_key(), 'batches') or '0') < 999999 then
    return redis.call('HINCRBY', account_key(), 'batches', 1)
  end
  local free = redis.call('ZRANGEBYSCORE', free_numbers_key(), '-inf', ms(now - 86400000), 'LIMIT', 0, 1)[1]
  if not free then
    error('the account has 999999 batches, the most that it can have; forget some: they are deleted within a day, and their numbers are free a day later', 0)
  end
  redis.call('ZREM', free_numbers_key(), free)
  return tonumber(free)
end

-- batch_number returns a batch's number, and makes the batch if its name is new.
local function batch_number(name)
  local number = redis.call('HGET', batch_names_key(), name)
  if not number then
    number = new_number()
    redis.call('HSET', batch_names_key(), name, number)
    redis.call('ZADD', numbered_key(), number, number)
    redis.call('HSET', batch_key(number), 'name', name, 'created_at', ms(now), 'cursor', 0)
    may_be_empty(number, now + UNUSED_FOR)
  end
  return tonumber(number)
end
