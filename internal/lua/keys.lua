-- The keys of an account. KEYS[1] is the account's tag, with which every key begins, so
-- that all keys are in one slot.
local tag = KEYS[1]

local LANE = { i = 'interactive', b = 'bulk' }

local function record_key(id) return tag .. '/' .. id end
local function old_key(generation, id) return tag .. ':old:' .. generation .. ':' .. id end
local function account_key() return tag .. ':account' end
local function batch_key(number) return tag .. ':batch:' .. number end
local function queued_key(lane) return tag .. ':queued:' .. LANE[lane] end
local function deadlines_key() return tag .. ':deadlines' end
