-- index_rows adds the mentions of the rows of a batch that an earlier version wrote, see
-- mentions.lua, and removes the ids of requests that have no record any more.
--
-- KEYS[1]: the account's tag
-- batch: its number
-- rows: chunk (its number)
-- Returns the number of rows that lost their id.
--
-- uses: batch_order, mentions, batch_empty
local batch = unpack(ARGV, 1, 1)
local order, removed = order_key(batch), 0
for i = 2, #ARGV do
  local chunk = unpack(ARGV, i, i)
  local text = redis.call('HGET', order, chunk)
  if text then
    local left, gone = mention_rows(batch, chunk, text)
    if gone > 0 then redis.call('HSET', order, chunk, left) end
    removed = removed + gone
  end
end
if removed > 0 then may_be_empty(batch) end
return removed
