-- The decision whether a call may be sent now: first the gate, then the rate.
--
-- uses: clock, gate_state, calls, gate_begin, rate, gate, gate_silence, gate_probe, refusal

local function decide(lane, process, credential, id, nonce, connected)
  if gate.reason == 'paused' then return 'wait', MAX_WAIT, 'paused' end
  observe()
  if calls_hang() then close_for('outage', false) end
  local r = refusal(credential)
  if r and now < r.next then return 'wait', math.min(MAX_WAIT, r.next - now), 'refused' end
  local own = r and r.prober == process and r.id == id
  if r and r.by > now and not (own and r.by <= now + CONNECT_TIMEOUT) then return 'wait', MAX_WAIT, 'refused' end
  if r and not (own and connected) then
    r.prober, r.id, r.by = process, id, now + CONNECT_TIMEOUT
    store_refusal(credential, r)
    return 'connect', 0, 'refused'
  end
  local verdict, wait, reason
  if gate.state == 'closed' then
    verdict, wait, reason = probe_gate(lane, process, id, connected)
  else
    verdict, wait, reason = admit_by_rate(lane, process)
  end
  if verdict ~= 'grant' and verdict ~= 'probe' then return verdict, wait, reason end
  redis.call('ZADD', CALLS, ms(now), call_name(process, id, nonce))
  if not r then return verdict, wait, reason end
  r.prober, r.id, r.by = process, id, now + ANSWER_TIMEOUT
  store_refusal(credential, r)
  return 'probe', wait, 'refused'
end

local ADMISSION_FIELDS = { 'state', 'reason', 'looked', 'answered', 'usual', 'refused', 'n', 'per', 'burst', 'level', 'at', 'held',
  'line:interactive', 'line:bulk', USED }

-- admit_call decides on a call. The caller stores the gate at its end, see store_gate.
--
-- lane: 'interactive' or 'bulk'   process, credential, id: who calls, with which
-- credentials, for which request   nonce: of this admission request
-- connected: '1' if the process has connected to FaceKi, as it was asked to
--
-- It returns a verdict, a wait in ms (as text with three decimals, since a number in a
-- reply is cut to an integer) and a reason:
--   grant    send the call after the wait: its token is of that time
--   probe    the same; it is the one call that tests the gate or the credentials
--   connect  the process is to probe a closed gate, or refused credentials: it connects
--            to FaceKi, then asks again as connected, or reports the signal
--            'unconnected', within 10 s
--   wait     ask again after the wait, at most 1000 ms
local function admit_call(lane, process, credential, id, nonce, connected)
  read_gate(ADMISSION_FIELDS)
  local verdict, wait, reason = decide(lane, process, credential, id, nonce, tonumber(connected) == 1)
  return verdict, wait == 0 and '0' or string.format('%.3f', wait), reason
end
