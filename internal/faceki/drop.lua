-- drop gives a token up, if it is still the one that is kept.
--
-- KEYS[1] as for claim
-- ARGV[1] the token (sealed)   ARGV[2] how many ms apart tokens are asked for
--
-- Returns 1 where the token is kept, being too young to be the one at fault.
local kept = redis.call('HMGET', KEYS[1], 'token', 'asked')
if not kept[1] or kept[1] ~= ARGV[1] then return 0 end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local age = now - (tonumber(kept[2] or 0) or 0)
if age >= 0 and age < tonumber(ARGV[2]) then return 1 end
redis.call('HDEL', KEYS[1], 'token', 'until')
return 0
