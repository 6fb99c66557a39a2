-- The batches that may be empty, by when they are to be examined: those into which an import
-- began, and those that lost a request or the id of a row. A batch without an entry is not
-- empty.
--
-- uses: keys, clock
local function perhaps_empty_key() return tag .. ':perhaps-empty' end

-- UNUSED_FOR is how long nothing was imported into a batch that is deleted, ms.
local UNUSED_FOR = 86400000

-- may_be_empty has a batch examined, now if no time is given. Number 0 is no batch.
local function may_be_empty(batch, at)
  if tonumber(batch) > 0 then redis.call('ZADD', perhaps_empty_key(), ms(at or now), batch) end
end
