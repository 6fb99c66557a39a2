-- end ends a request that is not being called, without a call.
--
-- ARGV[1] id, [2] generation, [3] run, [4] 'F' or 'X'
-- ARGV[5] event id, [6] time, [7] id as JSON, [8] head, [9] tail
-- ARGV[10] reason and message as JSON
-- ARGV[11] '', 'late' where its not_after must have passed, or the attempts after
-- which the request must be held
--
-- Returns the state that the request is in now; 'calling' where a cancel is
-- remembered until the call has its answer; 'stale' where the run is another, or ARGV[11] is not so.
--
-- uses: keys, record, deadline, outcome
local id, state = ARGV[1], ARGV[4]
local key = record_key(id)
local raw = redis.call('GET', key)
if not raw then return 'stale' end
local h = parse(raw)
if h.gen ~= tonumber(ARGV[2]) or h.run ~= tonumber(ARGV[3]) then return 'stale' end
if ARGV[11] == 'late' then
  if not expired(h, id, redis.call('HGET', batch_key(h.batch), 'not_after')) then return 'stale' end
elseif ARGV[11] ~= '' and (h.state ~= 'h' or h.attempts ~= tonumber(ARGV[11])) then
  return 'stale'
end
if ENDED[h.state] then return NAME[h.state] end
if h.state == 'c' then
  if state == 'X' then
    h.flag = 'x'
    save(key, h)
  end
  return NAME.c
end
conclude(id, key, raw, h, state, {
  event = ARGV[5], at = ARGV[6], id_json = ARGV[7], head = ARGV[8], tail = ARGV[9], middle = ARGV[10],
}, ARGV[10])
return NAME[state]
