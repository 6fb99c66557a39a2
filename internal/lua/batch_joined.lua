-- How many rows of each chunk of a batch joined.
--
-- uses: keys
local function joined_key(batch) return tag .. ':joined:' .. batch end
