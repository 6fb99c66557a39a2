-- Steps of Redis' clock, as the process that runs the script sees them.
--
-- uses: clock

-- expected is Redis' time by the monotonic clock of the process; 0: not known. Redis'
-- clock has stepped if it differs by more than a slow network explains.
local expected, MAX_DRIFT = 0, 500
local function clock_stepped() return expected > 0 and math.abs(now - expected) > MAX_DRIFT end
local function clock_jumped_ahead() return expected > 0 and now - expected > MAX_DRIFT end
