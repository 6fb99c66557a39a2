-- The pause of a request after a fault.
--
-- uses: clock

-- An hour, and a minute of tolerance.
local MAX_RETRY_PAUSE = 3660000

-- in_retry_pause reports whether a queued request that is due in the future is in the
-- pause after its last fault. Any other such time was stored while the clock was ahead.
local function in_retry_pause(h, due)
  return due > now and h.changed <= now and due <= h.changed + MAX_RETRY_PAUSE
end
