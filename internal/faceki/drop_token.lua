-- drop_token removes a token that was refused, if it is still the stored one. A token that
-- replaced a refused one and is refused as well, before any call with it was accepted, is
-- kept: then the cause is the account, not the token.
--
-- KEYS[1]: as for claim_token
-- token: encrypted
-- spacing: how many ms there must be between two requests for a token
-- Returns 1 if the token is kept, since it is not the cause, else 0.
--
-- uses: clock
local token, spacing = unpack(ARGV)
local stored, requested, replaces = unpack(redis.call('HMGET', KEYS[1], 'token', 'asked', 'replaces'))
if not stored or stored ~= token then return 0 end
local asked = tonumber(requested or 0) or 0
local recent = now >= asked and now < asked + spacing
if recent and replaces then return 1 end
redis.call('HDEL', KEYS[1], 'token', 'until', 'due')
redis.call('HSET', KEYS[1], 'replaces', '1')
if recent then redis.call('HSET', KEYS[1], 'due', ms(asked + spacing)) end
return 0
