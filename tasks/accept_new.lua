-- accept_new accepts requests that are all new, in the bulk lane, of generation 1 and
-- without a not_after of their own, as most rows of an import are. It writes the records
-- of up to 100 requests, and their chunk of a batch.
--
-- KEYS[1]: the account's tag
-- batch: its number, 0 for none
-- chunk: its number, '' for none
-- chunk_rows: the chunk's text, a line "row id" for each row
-- size: how many rows these are
-- joined: how many of them joined
-- max_backlog: how many requests of a lane may wait and be queued, '' for any number
-- rows: id (each id once), content
-- Returns as accept does.
--
-- uses: keys, clock, counters, accepting, chunk
local batch, chunk, chunk_rows, size, joined, max_backlog = unpack(ARGV, 1, 6)
batch = tonumber(batch)
local refusal = batch_refusal(batch)
if refusal then return refusal end

local ids, keys, writes, n = {}, {}, {}, 0
local head = new_header('b', 1, '-', batch)
for i = 7, #ARGV, 2 do
  local id, content = unpack(ARGV, i, i + 1)
  n = n + 1
  ids[n], keys[n] = id, record_key(id)
  writes[2 * n - 1], writes[2 * n] = keys[n], new_record(head, content)
end
if n > 0 then
  local full = backlog_refusal({ i = 0, b = n }, max_backlog)
  if full and redis.call('EXISTS', unpack(keys)) == 0 then return full end
  if redis.call('MSETNX', unpack(writes)) == 0 then return stored_records(0, keys) end
  count(batch, 'w', n)
end
store_chunk(batch, chunk, chunk_rows, size, joined, ids)
return { 2, ms(now) }
