-- land ends a turn with what it brought.
--
-- KEYS[1] as for claim
-- ARGV[1] the caller   ARGV[2] 'token' or 'fault'   ARGV[3] it, '' for neither
-- ARGV[4] for how many ms it stands
--
-- Returns 1, or 0 where another one has the turn by now.
local holder = redis.call('HGET', KEYS[1], 'holder')
if holder and holder ~= ARGV[1] then return 0 end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
redis.call('HDEL', KEYS[1], 'holder', 'lease')
if ARGV[3] ~= '' then
  local ends = ARGV[2] == 'token' and 'until' or 'retry'
  redis.call('HSET', KEYS[1], ARGV[2], ARGV[3], ends, string.format('%.0f', now + ARGV[4]))
  redis.call('PEXPIRE', KEYS[1], ARGV[4] + 3600000)
end
return 1
