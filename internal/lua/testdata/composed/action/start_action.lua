-- lua/memo.lua
local digest, actions_key, running_actions_key, token_key, clock, memo, now, action_key, ms, tag do
function memo(f)
  return setmetatable({}, { __index = function(results, x)
    local result = f(x)
    if type(x) ~= 'number' or x < 256 or x > 67108864 then results[x] = result end
    return result
  end })
end
-- lua/clock.lua
end do
clock = redis.call('TIME')
now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local TEXT = memo(function(n) return string.format('%.0f', n) end)
function ms(n) return TEXT[n] end
-- lua/keys.lua
end do
tag = KEYS[1]
local LANE = { i = 'interactive', b = 'bulk' }
local function record_key(id) return tag .. '/' .. id end
local function old_key(generation, id) return tag .. ':old:' .. generation .. ':' .. id end
local ACCOUNT = tag .. ':account'
local function account_key() return ACCOUNT end
local function batch_key(number) return tag .. ':batch:' .. number end
local QUEUED = memo(function(lane) return tag .. ':queued:' .. LANE[lane] end)
local function queued_key(lane) return QUEUED[lane] end
local function deadlines_key() return tag .. ':deadlines' end
-- action/action.lua
end do
function action_key(id) return tag .. ':action:' .. id end
function token_key(token) return tag .. ':actions:token:' .. token end
function digest(token) return string.match(token, '^[^-]*') end
function actions_key() return tag .. ':actions' end
function running_actions_key() return tag .. ':actions:running' end
local ACTION_KEPT = 7 * 24 * 3600 * 1000 -- ms after the end
local function leave_action(id)
  redis.call('HDEL', action_key(id), 'ids', 'cursor', 'page', 'until')
  redis.call('ZREM', running_actions_key(), id)
end
local function end_action(id, state, message)
  local key = action_key(id)
  redis.call('HSET', key, 'state', state, 'ended', ms(now), 'message', message)
  redis.call('PEXPIRE', key, ms(ACTION_KEPT))
  local token = redis.call('HGET', key, 'token')
  if token then redis.call('PEXPIRE', token_key(token), ms(ACTION_KEPT)) end
end
local function uncounted(id)
  return (redis.call('HGET', action_key(id), 'page') or '') ~= ''
end
-- action/start_action.lua
end
local id, token, kind, by, rate, filter, ids, matched, selected, most_running, most_kept = unpack(ARGV)
local before = redis.call('GET', token_key(token))
if before then return { 'started', before } end
local running = 0
for _, other in ipairs(redis.call('ZRANGE', running_actions_key(), 0, -1)) do
  local known = redis.call('HMGET', action_key(other), 'state', 'token')
  if known[1] == 'running' then
    running = running + 1
    if tonumber(matched) > 0 and known[2] and digest(known[2]) == digest(token) then return { 'same', other } end
  end
end
if running >= tonumber(most_running) then return { 'busy' } end
redis.call('SET', token_key(token), id)
redis.call('HSET', action_key(id), 'token', token, 'kind', kind, 'by', by, 'rate', rate, 'filter', filter, 'selected', selected,
  'matched', matched, 'state', 'running', 'created', ms(now))
if ids ~= '' then redis.call('HSET', action_key(id), 'ids', ids) end
redis.call('ZADD', actions_key(), ms(now), id)
redis.call('ZADD', running_actions_key(), ms(now), id)
local excess = redis.call('ZCARD', actions_key()) - tonumber(most_kept)
for _, old in ipairs(redis.call('ZRANGE', actions_key(), 0, 99)) do
  local expired = redis.call('EXISTS', action_key(old)) == 0
  if expired or excess > 0 and not redis.call('ZSCORE', running_actions_key(), old) then
    local used = redis.call('HGET', action_key(old), 'token')
    if used then redis.call('DEL', token_key(used)) end
    redis.call('DEL', action_key(old))
    redis.call('ZREM', actions_key(), old)
    excess = excess - 1
  end
end
return { 'started', id }
