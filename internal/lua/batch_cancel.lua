-- Cancelling of batches.
--
-- uses: keys

-- The batches that are being cancelled, by when that began.
local function cancelling_key() return tag .. ':cancelling' end

-- What was requeued of a batch when it was cancelled.
local function cancelled_key(batch) return tag .. ':off:' .. batch end
