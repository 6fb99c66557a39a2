-- quarantine ends the run of a request that no handler can process, or cancels it if a
-- cancel is stored. Its raw content is kept with the outcome, and in no event.
--
-- KEYS[1]: the account's tag
-- id
-- raw: the record as the caller read it
-- turn, process, credential
-- nonce: of a grant that the process did not use, or ''
-- event_id, at (RFC 3339), id_json, head, tail: of the event, see outcome.lua
-- reason: the reason and message, as a JSON fragment that begins with a comma
-- cancelled: the same for a cancel
-- kept: the raw content, as the JSON fragment ,"raw":…
-- unreadable_sections: '1' if the sections of the record cannot be read
-- Returns the state that the request has now; 'stale' if the turn is not its present one,
-- 'busy' if another process calls, 'changed' if the record is not as the caller read it.
--
-- uses: keys, record, uncertain, outcome, gate_state, calls, signals
local id, raw, turn, process, credential, nonce, event_id, at, id_json, head, tail, reason, cancelled, kept,
  unreadable_sections = unpack(ARGV)
local key = record_key(id)
if redis.call('GET', key) ~= raw then return 'changed' end
local h = parse_header(raw)
if h.turn ~= tonumber(turn) or h.state ~= 'q' and h.state ~= 'c' then return ENDED[h.state] and NAME[h.state] or 'stale' end
if h.state == 'c' then
  if h.holder ~= tonumber(process) then return 'busy' end
  local unsent = is_granted(process, id, nonce)
  if unsent then h.attempts = h.attempts - 1 else count_uncertain(h) end
  report_signal(unsent and 'back' or 'none', id, process, unsent and nonce or '', credential, h.changed, 0, 0)
  store_gate()
end
local state, why = 'F', reason
if h.flag == 'x' then state, why = 'X', cancelled end
if unreadable_sections == '1' then raw = string.sub(raw, 1, HEADER) .. '{}' end
conclude(id, key, raw, h, state, {
  event = event_id, at = at, id_json = id_json, head = head, tail = tail, middle = why,
}, why .. kept)
return NAME[state]
