-- erase_requeued removes the ids of requests that have no record any more from a list of
-- requeued requests. The feeder skips the empty entries that it leaves.
--
-- KEYS[1]: the account's tag
-- list: its key
-- skip: how many entries to skip, from the end of the list
-- max: the most entries to read
-- Returns {how many entries it read, how many ids it removed}. The list grows at its end
-- and is fed from its beginning, so that a walk from the end skips none.
--
-- uses: keys
local list, skip, max = unpack(ARGV)
local from = -1 - skip
local ids, removed = redis.call('LRANGE', list, from - max + 1, from), 0
for i, id in ipairs(ids) do
  if id ~= '' and redis.call('EXISTS', record_key(id)) == 0 then
    redis.call('LSET', list, from - #ids + i, '')
    removed = removed + 1
  end
end
return { #ids, removed }
