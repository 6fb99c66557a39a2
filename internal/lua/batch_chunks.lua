-- Walking through the chunks of a batch.
--
-- uses: keys, batch_order

-- The field `last` of a batch is the highest chunk number that was written. Earlier
-- versions wrote none, and left no more than MAX_MISSING chunks out.
local MAX_MISSING = 16
local function last_chunk(batch)
  local n = redis.call('HLEN', order_key(batch))
  if n == 0 then return -1 end
  return math.max(n - 1 + MAX_MISSING, tonumber(redis.call('HGET', batch_key(batch), 'last') or '-1'))
end

-- next_chunk returns the number and the text of the first chunk that exists, from a
-- number on; nil and the number to continue from if `most` chunks are missing; nil and
-- nil after the last chunk.
local function next_chunk(batch, from, most)
  local text = redis.call('HGET', order_key(batch), from)
  if text then return from, text end
  local last = last_chunk(batch)
  for n = from + 1, math.min(from + most, last) do
    if redis.call('HEXISTS', order_key(batch), n) == 1 then return n, redis.call('HGET', order_key(batch), n) end
  end
  if from + most < last then return nil, from + most + 1 end
end
