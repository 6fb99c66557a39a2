-- Deliveries of events to callback URLs: a hash for each event, and a list of its events
-- for each request.
--
-- uses: keys
local function delivery_key(event) return tag .. ':delivery:' .. event end
local function deliveries_key(id) return tag .. ':deliveries:' .. id end

-- The events whose delivery is pending, by when it is due, and those whose delivery was
-- given up, by when, without those that an operator dropped.
local function pending_key() return tag .. ':pending' end
local function undelivered_key() return tag .. ':undelivered' end
