-- Gate signals: what outcomes of attempts tell the gate. They are those of the Go type
-- Signal.
--
-- uses: clock, gate_state, calls, gate_begin, gate, gate_outcomes, refusal_outcomes

local SIGNAL_FIELDS = { 'state', 'reason', 'looked', 'answered', 'usual', 'throttles', 'good', 'refused', 'prober', 'opened', 'row', 'last' }

-- Signals that do not show that FaceKi answers.
local NO_ANSWER = { outage = true, unavailable = true, none = true, back = true, unconnected = true, no_token = true }

-- Signals with messages that are stored for the status. No script reads the messages.
local WITH_MESSAGE = { outage = true, unavailable = true, throttle = true, refused = true, no_credit = true, limit_reached = true,
  unconnected = true, no_token = true }

-- report_signal records the outcome of a granted call, or of an attempt to connect. The
-- caller stores the gate at its end, see store_gate.
--
-- signal, id, process, credential   nonce: the grant's; '' if it is not known, nil for a
-- connect   began: when the attempt began, ms   retry_after: of a throttle, ms
-- latency: of an answer, ms   message: the fault's, or nil
local function report_signal(signal, id, process, nonce, credential, began, retry_after, latency, message)
  began, retry_after, latency = tonumber(began), tonumber(retry_after), tonumber(latency)
  read_gate(SIGNAL_FIELDS)
  if nonce then remove_call(process, id, nonce, began) end
  if not NO_ANSWER[signal] then set('answered', now) end
  if signal == 'success' or signal == 'alive' then
    learn_latency(latency)
    set('throttles', math.max(0, gate.throttles - 0.25))
    set('good', credential) -- only for the status
  elseif signal == 'refused' then
    set('good', '') -- likewise: nobody may use the good credentials any more
  end
  if not WITH_MESSAGE[signal] or message == '' then message = nil end
  update_refusal(signal, id, process, credential, began, message)
  if message and (began >= gate.opened or is_probe(id, process)) then
    gate.message, gate.message_at, dirty.message, dirty.message_at = message, now, true, true
  end
  if is_probe(id, process) then
    conclude_probe(signal, retry_after)
  elseif began >= gate.opened then
    if signal == 'throttle' then throttled(false, retry_after)
    elseif signal == 'no_credit' or signal == 'limit_reached' then close_for(signal, false)
    elseif close_reason() ~= '' then -- a call that was sent before it closed shows nothing new
    elseif signal == 'outage' or signal == 'unavailable' then count_outcome(false, id)
    elseif signal == 'success' or signal == 'alive' then count_outcome(true, id) end
  end
end

-- abandon_probe ends the probe of a process that died, of a closed gate or of refused
-- credentials, so that another process may probe after the same pause. The caller stores the gate
-- at its end.
local function abandon_probe(id, process)
  read_gate(SIGNAL_FIELDS)
  if is_probe(id, process) then conclude_probe('none') end
  for credential in string.gmatch(gate.refused, '%S+') do update_refusal('none', id, process, credential, 0) end
end
