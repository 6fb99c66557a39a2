-- Batches that are paused or cancelled.

-- stop_field is a field of the account. It is 'paused', or 'cancelled' until all requests
-- of the batch have ended: then none of them is called.
local function stop_field(batch) return 'batch:' .. batch end
