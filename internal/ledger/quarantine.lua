-- poison ends the run of a request that cannot be handled, or a cancelled one as
-- such. What is raw of it is kept on the outcome, and in no event.
--
-- ARGV[1] id, [2] the raw record as the caller saw it, [3] turn
-- ARGV[4] process, [5] its credentials, [6] the nonce of a grant that it did not use,
-- or ''
-- ARGV[7] event id, [8] time, [9] id as JSON, [10] head, [11] tail
-- ARGV[12] reason and message as JSON, [13] the same of a cancel
-- ARGV[14] raw as JSON: ,"raw":…   ARGV[15] '1': the lines of the record cannot be read
--
-- Returns the state that the request is in now; 'stale' where the turn is
-- another, 'busy' where another process calls, 'changed' where the record is not
-- as the caller saw it.
--
-- uses: keys, record, uncertain, outcome, gate_state, calls, signals
local id = ARGV[1]
local key = record_key(id)
local raw = redis.call('GET', key)
if raw ~= ARGV[2] then return 'changed' end
local h = parse(raw)
if h.turn ~= tonumber(ARGV[3]) or h.state ~= 'q' and h.state ~= 'c' then return ENDED[h.state] and NAME[h.state] or 'stale' end
if h.state == 'c' then
  if h.holder ~= tonumber(ARGV[4]) then return 'busy' end
  local unsent = is_granted(ARGV[4], id, ARGV[6])
  if unsent then h.attempts = h.attempts - 1 else count_uncertain(h) end
  report(unsent and 'back' or 'none', id, ARGV[4], unsent and ARGV[6] or '', ARGV[5], h.changed, 0, 0)
  store_gate()
end
local state, why = 'F', ARGV[12]
if h.flag == 'x' then state, why = 'X', ARGV[13] end
if ARGV[15] == '1' then raw = string.sub(raw, 1, HEADER) .. '{}' end
conclude(id, key, raw, h, state, {
  event = ARGV[7], at = ARGV[8], id_json = ARGV[9], head = ARGV[10], tail = ARGV[11], middle = why,
}, why .. ARGV[14])
return NAME[state]
