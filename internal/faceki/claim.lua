-- claim tells what is kept of an access token, or gives the turn to ask for it.
-- All times are Redis': a worker's clock may be off.
--
-- KEYS[1] hash: token (sealed) and until; fault and retry; asked; holder and lease;
--   due: no token is asked for before, as the last one was refused; replaces: '1' from
--   then on until a call with a later token was accepted
-- ARGV[1] the caller   ARGV[2] for how many ms it has the turn
-- ARGV[3] the most ms that a fault may stand
--
-- Returns {'token', sealed, ms left}, {'fault', text, ms since it was asked},
-- {'turn'}: the caller is to ask, {'wait'}: another one is asking, or {'due', ms until
-- a token may be asked for}.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local kept = redis.call('HMGET', KEYS[1], 'token', 'until', 'fault', 'retry', 'asked', 'holder', 'lease', 'due', 'replaces')
local function left(ms) return (tonumber(ms or 0) or 0) - now end

-- The clock went back since it was asked for: then there is no more left than there was.
local ahead = math.max(0, left(kept[5]))
if kept[1] and left(kept[2]) - ahead > 0 then return { 'token', kept[1], string.format('%.0f', left(kept[2]) - ahead) } end
if kept[3] and ahead == 0 and left(kept[4]) > 0 and left(kept[4]) <= tonumber(ARGV[3]) then
  return { 'fault', kept[3], string.format('%.0f', -left(kept[5])) }
end
if kept[6] and kept[6] ~= ARGV[1] and left(kept[7]) > 0 and left(kept[7]) <= tonumber(ARGV[2]) then return { 'wait' } end

if kept[8] and left(kept[8]) > 0 and left(kept[8]) <= tonumber(ARGV[3]) then
  return { 'due', string.format('%.0f', left(kept[8])) }
end

redis.call('DEL', KEYS[1])
if kept[9] then redis.call('HSET', KEYS[1], 'replaces', kept[9]) end
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'lease', string.format('%.0f', now + ARGV[2]), 'asked', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], ARGV[2] + 3600000)
return { 'turn' }
