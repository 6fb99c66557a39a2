-- lua/memo.lua
local now, end_action, leave_action, uncounted, action_key, clock, memo, ms, tag do
function memo(f)
  return setmetatable({}, { __index = function(results, x)
    local result = f(x)
    if type(x) ~= 'number' or x < 256 or x > 67108864 then results[x] = result end
    return result
  end })
end
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
-- lua/clock.lua
end do
clock = redis.call('TIME')
now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local TEXT = memo(function(n) return string.format('%.0f', n) end)
function ms(n) return TEXT[n] end
-- action/action.lua
end do
function action_key(id) return tag .. ':action:' .. id end
local function token_key(token) return tag .. ':actions:token:' .. token end
local function digest(token) return string.match(token, '^[^-]*') end
local function actions_key() return tag .. ':actions' end
local function running_actions_key() return tag .. ':actions:running' end
local ACTION_KEPT = 7 * 24 * 3600 * 1000 -- ms after the end
function leave_action(id)
  redis.call('HDEL', action_key(id), 'ids', 'cursor', 'page', 'until')
  redis.call('ZREM', running_actions_key(), id)
end
function end_action(id, state, message)
  local key = action_key(id)
  redis.call('HSET', key, 'state', state, 'ended', ms(now), 'message', message)
  redis.call('PEXPIRE', key, ms(ACTION_KEPT))
  local token = redis.call('HGET', key, 'token')
  if token then redis.call('PEXPIRE', token_key(token), ms(ACTION_KEPT)) end
end
function uncounted(id)
  return (redis.call('HGET', action_key(id), 'page') or '') ~= ''
end
-- action/abort_action.lua
end
local id = unpack(ARGV)
local key = action_key(id)
local state = redis.call('HGET', key, 'state')
if state ~= 'running' then return state or '' end
end_action(id, 'aborted', '')
if uncounted(id) then
  redis.call('HDEL', key, 'ids', 'cursor')
else
  leave_action(id)
end
return state
