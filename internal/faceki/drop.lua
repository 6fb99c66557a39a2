-- drop gives a token up that was refused, if it is still the one that is kept. Another
-- one is asked for when that is due. Where a token that replaces a refused one is
-- refused as well, before any call with it was accepted, tokens are not at fault.
--
-- KEYS[1] as for claim
-- ARGV[1] the token (sealed)   ARGV[2] how many ms apart tokens are asked for
--
-- Returns 1 where the token is kept, as it is not the one at fault.
local kept = redis.call('HMGET', KEYS[1], 'token', 'asked', 'replaces')
if not kept[1] or kept[1] ~= ARGV[1] then return 0 end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local asked = tonumber(kept[2] or 0) or 0
local young = now >= asked and now < asked + ARGV[2]
if young and kept[3] then return 1 end
redis.call('HDEL', KEYS[1], 'token', 'until', 'due')
redis.call('HSET', KEYS[1], 'replaces', '1')
if young then redis.call('HSET', KEYS[1], 'due', string.format('%.0f', asked + ARGV[2])) end
return 0
