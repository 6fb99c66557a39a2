-- The keys of actions, and the end of an action.
--
-- uses: keys, clock
local function action_key(id) return tag .. ':action:' .. id end

-- All actions, and those that are running, by the time of their start.
local function actions_key() return tag .. ':actions' end
local function running_actions_key() return tag .. ':actions:running' end

local ACTION_KEPT = 7 * 24 * 3600 * 1000 -- ms after the end

-- end_action removes what only a running action needs, which may name requests.
local function end_action(id, state, message)
  local key = action_key(id)
  redis.call('HSET', key, 'state', state, 'ended', ms(now), 'message', message)
  redis.call('HDEL', key, 'ids', 'cursor', 'page', 'until')
  redis.call('PEXPIRE', key, ms(ACTION_KEPT))
  redis.call('ZREM', running_actions_key(), id)
end
