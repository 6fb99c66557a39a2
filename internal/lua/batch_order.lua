-- The rows of a batch in input order: a hash of numbered chunks, which are written in any
-- order. Some are never written: those of an import that was killed, or whose rows were
-- all rejected.
--
-- uses: keys
local function order_key(batch) return tag .. ':order:' .. batch end
