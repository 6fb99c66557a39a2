-- The batches that have a not_after, by when their requests are to be examined for it.
--
-- uses: keys
local function batch_deadlines_key() return tag .. ':batch-deadlines' end
