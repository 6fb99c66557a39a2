-- end ends a request that is not being called, without a call.
--
-- KEYS[1]: the account's tag
-- id, generation, run
-- state: the end, 'F' (failed) or 'X' (cancelled)
-- condition: '', 'expired' if its not_after must have passed, or the number of attempts
--   with which the request must be held
-- event_id, at (RFC 3339), id_json, head, tail: of the event, see outcome.lua
-- reason: the reason and message, as a JSON fragment that begins with a comma
-- Returns the state that the request has now; 'calling' if a cancel is stored until the
-- call has its answer; 'stale' if another run is open, or the condition does not hold.
--
-- uses: keys, record, deadline, outcome
local id, generation, run, state, condition, event_id, at, id_json, head, tail, reason = unpack(ARGV)
local key = record_key(id)
local raw = redis.call('GET', key)
if not raw then return 'stale' end
local h = parse_header(raw)
if h.gen ~= tonumber(generation) or h.run ~= tonumber(run) then return 'stale' end
if condition == 'expired' then
  if not expired(h, id, redis.call('HGET', batch_key(h.batch), 'not_after')) then return 'stale' end
elseif condition ~= '' and (h.state ~= 'h' or h.attempts ~= tonumber(condition)) then
  return 'stale'
end
if ENDED[h.state] then return NAME[h.state] end
if h.state == 'c' then
  if state == 'X' then
    h.flag = 'x'
    save_header(key, h)
  end
  return NAME.c
end
conclude(id, key, raw, h, state, {
  event = event_id, at = at, id_json = id_json, head = head, tail = tail, middle = reason,
}, reason)
return NAME[state]
