-- Worker processes that handle bundles, by their last heartbeat (ms). Those of earlier
-- versions are in `workers` only.
--
-- uses: keys
local function bundlers_key() return tag .. ':bundlers' end
