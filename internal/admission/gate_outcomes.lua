-- Effects of the outcomes of calls on the gate.
--
-- uses: clock, gate_state, gate

local function open_gate()
  local ramp = now - gate.closed > RAMP_AFTER and gate.n * 1000 >= 2 * gate.per
  set('opened', now) set('answered', now) set('row', '') set('last', '') set('pause', 0) set('next', 0)
  change_state(ramp and 'ramping' or 'open', '', now)
end

-- throttled closes the gate after a 429. Without a Retry-After, the pause doubles with each
-- 429, and four successes undo one doubling. Further 429s of calls that were in flight when
-- the gate closed do not count.
local function throttled(from_probe, retry_after)
  if from_probe or close_reason() == '' then set('throttles', gate.throttles + 1) end
  local wait = math.min(MAX_PAUSE.throttled, FIRST_PAUSE.throttled * 2 ^ math.min(10, math.max(0, math.floor(gate.throttles) - 1)))
  if retry_after > 0 then wait = math.min(600000, math.max(1000, retry_after)) end
  close_for('throttled', from_probe, wait)
end

-- count_outcome records an outcome, and closes the gate if the faults show an outage.
local function count_outcome(good, id)
  set('last', string.sub(gate.last .. (good and 's' or 'f'), -20))
  if good then set('row', '') return end
  local row = {}
  for other in string.gmatch(gate.row, '[^\n]+') do
    row[#row + 1] = other
    if other == id then id = nil end
  end
  row[#row + 1] = id
  set('row', table.concat(row, '\n'))
  local _, faults = string.gsub(gate.last, 'f', '')
  if #row >= 5 or faults >= 14 then close_for('outage', false) end
end

-- learn_latency updates the estimate of the 99th percentile: a slower answer raises it by up
-- to 5 %, and a faster one lowers it by 0.05 %, so that one answer in a hundred is slower.
local function learn_latency(latency)
  if latency <= 0 then return end
  if gate.usual == 0 then set('usual', latency)
  elseif latency > gate.usual then set('usual', math.min(latency, gate.usual * 1.05))
  else set('usual', gate.usual * 0.9995) end
end

local function is_probe(id, process)
  return gate.prober ~= '' and gate.prober == process and gate.probe == id
end

-- probe_failed keeps the gate closed after a probe that found an outage. Only if the probe
-- may have made a link does the pause before the next one grow.
local function probe_failed(may_have_made_link)
  if may_have_made_link or close_reason() ~= 'outage' then close_for('outage', true)
  else set('next', math.max(gate.next, now + FIRST_PAUSE.outage)) end
end

-- conclude_probe records the outcome of the probe, or of the attempt to connect before it.
local function conclude_probe(signal, retry_after)
  clear_probe()
  if signal == 'success' or signal == 'alive' then open_gate()
  elseif signal == 'throttle' then throttled(true, retry_after)
  elseif signal == 'none' then set('next', now + gate.pause)
  elseif signal == 'back' or signal == 'refused' then set('next', now)
  elseif signal == 'unavailable' or signal == 'unconnected' then probe_failed(false)
  elseif signal == 'outage' or signal == 'no_token' then probe_failed(true)
  else close_for(signal, true) end
end
