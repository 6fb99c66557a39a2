-- start_action stores an action and sets it running, unless its token has started one before,
-- or a running action has a token of the same entries.
-- Actions that have expired are removed from the list, and the oldest that have ended if there
-- are too many.
--
-- KEYS[1]: the account's tag
-- id, token, kind, by, rate: of the action
-- filter, ids: what it is applied to, as JSON; ids is '' if there is only a filter
-- matched, selected: the number of entries that match, and of the given IDs
-- most_running, most_kept: numbers of actions
-- Returns 'started' and the ID of the action that the token has started, now or before;
-- 'same' and the ID of the running action of the same entries; or 'busy' if as many actions
-- as may are running.
--
-- uses: clock, action
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
