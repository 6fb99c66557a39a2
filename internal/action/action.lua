-- The keys of actions, and the end of an action.
--
-- uses: keys, clock
local function action_key(id) return tag .. ':action:' .. id end

-- The ID of the action that a plan's token has started. It is kept as long as the action.
local function token_key(token) return tag .. ':actions:token:' .. token end

-- digest returns the part of a token that tokens of the same kind and entries have in common.
local function digest(token) return string.match(token, '^[^-]*') end

-- All actions, and those that have a runner's work left, by the time of their start: running
-- ones, and aborted ones with a page that is not counted.
local function actions_key() return tag .. ':actions' end
local function running_actions_key() return tag .. ':actions:running' end

local ACTION_KEPT = 7 * 24 * 3600 * 1000 -- ms after the end

-- leave_action removes what only a runner needs, which may name requests.
local function leave_action(id)
  redis.call('HDEL', action_key(id), 'ids', 'cursor', 'page', 'until')
  redis.call('ZREM', running_actions_key(), id)
end

-- end_action sets the state in which an action ends.
local function end_action(id, state, message)
  local key = action_key(id)
  redis.call('HSET', key, 'state', state, 'ended', ms(now), 'message', message)
  redis.call('PEXPIRE', key, ms(ACTION_KEPT))
  local token = redis.call('HGET', key, 'token')
  if token then redis.call('PEXPIRE', token_key(token), ms(ACTION_KEPT)) end
end

-- uncounted reports whether a runner has begun a page of an action, and has not stored how
-- many of its entries it has changed.
local function uncounted(id)
  return (redis.call('HGET', action_key(id), 'page') or '') ~= ''
end
