-- erase_rows removes the ids of requests that have no record any more from the rows of a
-- batch.
--
-- KEYS[1]: the account's tag
-- batch: its number
-- rows: chunk (its number)
-- Returns the number of rows that lost their id.
--
-- uses: keys, batch_order
local batch = unpack(ARGV, 1, 1)
local order, removed = order_key(batch), 0
for i = 2, #ARGV do
  local chunk = unpack(ARGV, i, i)
  local text = redis.call('HGET', order, chunk)
  if text then
    local before = removed
    text = string.gsub(text, '(\n%d+) ([^\n]+)', function(row, id)
      if redis.call('EXISTS', record_key(id)) == 1 then return nil end
      removed = removed + 1
      return row
    end)
    if removed > before then redis.call('HSET', order, chunk, text) end
  end
end
return removed
