-- scrub takes the ids of requests that are not kept out of the rows of a batch.
-- ARGV[1] the batch's number   ARGV[2...] numbers of chunks
-- Returns how many rows lost their id.
--
-- uses: keys, batch_order
local order, cut = order_key(ARGV[1]), 0
for i = 2, #ARGV do
  local text = redis.call('HGET', order, ARGV[i])
  if text then
    local before = cut
    text = string.gsub(text, '(\n%d+) ([^\n]+)', function(row, id)
      if redis.call('EXISTS', record_key(id)) == 1 then return nil end
      cut = cut + 1
      return row
    end)
    if cut > before then redis.call('HSET', order, ARGV[i], text) end
  end
end
return cut
