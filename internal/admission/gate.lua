-- The gate: when it closes, probes and opens.
--
-- uses: clock, gate_state

-- close_reason returns why FaceKi must not be called, apart from an operator's pause.
local function close_reason()
  if gate.reason == 'paused' then return gate.under end
  return gate.reason
end

local function clear_probe() set('prober', '') set('probe', '') set('sent', 0) set('by', 0) end

-- close_gate closes the gate for at least `wait` ms. The next pause grows from `pause`, or
-- from `wait` if that is nil. During an operator's pause, the reason is stored for later.
local function close_gate(reason, wait, pause)
  if close_reason() == '' then set('closed', now) end
  set('pause', pause or wait)
  set('next', math.max(gate.next, now + wait))
  if gate.reason == 'paused' then set('under', reason) else change_state('closed', reason, now) end
end

local function longer_pause(reason) return math.min(MAX_PAUSE[reason], gate.pause * 2) end

-- close_for closes the gate, or keeps it closed, for a reason. from_probe: the probe found
-- the reason. wait: the Retry-After in ms, or nil.
local function close_for(reason, from_probe, wait)
  local current = close_reason()
  if current == '' then
    close_gate(reason, wait or FIRST_PAUSE[reason])
  elseif from_probe and RANK[reason] >= RANK[current] then
    close_gate(reason, wait or (reason == current and longer_pause(reason)) or FIRST_PAUSE[reason])
  elseif from_probe then
    local pause = longer_pause(current)
    close_gate(current, math.max(pause, wait or 0), pause)
  elseif RANK[reason] > RANK[current] then
    close_gate(reason, FIRST_PAUSE[reason])
  elseif wait then
    set('next', math.max(gate.next, now + wait))
  end
end
