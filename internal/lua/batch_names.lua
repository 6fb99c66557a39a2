-- Names and numbers of batches.
--
-- uses: keys
local function batch_names_key() return tag .. ':batches' end

-- The numbers of all batches, and those of deleted batches by the time of the deletion.
local function numbered_key() return tag .. ':numbered' end
local function free_numbers_key() return tag .. ':free-numbers' end
