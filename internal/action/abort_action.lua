-- abort_action ends a running action. The entries that its runner changes at this moment
-- are counted nevertheless.
--
-- KEYS[1]: the account's tag
-- id: of the action
-- Returns the state before; '' if there is no such action.
--
-- uses: action
local id = unpack(ARGV)
local state = redis.call('HGET', action_key(id), 'state')
if state == 'running' then end_action(id, 'aborted', '') end
return state or ''
