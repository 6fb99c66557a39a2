-- Redis' clock. All times of scripts are ms since 1970.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- ms formats a time or an integer without an exponent. Most often it is asked for now.
local now_text = string.format('%.0f', now)
local function ms(n)
  if n == now then return now_text end
  return string.format('%.0f', n)
end
