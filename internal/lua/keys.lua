-- The keys of an account. KEYS[1] is the account's tag, with which every key begins, so
-- that all keys are in one slot.
--
-- uses: memo
local tag = KEYS[1]

local LANE = { i = 'interactive', b = 'bulk' }

local function record_key(id) return tag .. '/' .. id end
local function old_key(generation, id) return tag .. ':old:' .. generation .. ':' .. id end
local ACCOUNT = tag .. ':account'
local function account_key() return ACCOUNT end
local function batch_key(number) return tag .. ':batch:' .. number end
local QUEUED = memo(function(lane) return tag .. ':queued:' .. LANE[lane] end)
local function queued_key(lane) return QUEUED[lane] end
local function deadlines_key() return tag .. ':deadlines' end
