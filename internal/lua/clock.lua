-- Redis' clock. All times of scripts are ms since 1970.
--
-- uses: memo
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- ms formats a time or an integer without an exponent.
local TEXT = memo(function(n) return string.format('%.0f', n) end)
local function ms(n) return TEXT[n] end
