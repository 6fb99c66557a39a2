-- Detection of calls that FaceKi does not answer.
--
-- uses: keys, clock, gate_state, calls, gate

-- observe measures FaceKi's silence from now on if no process observed the gate for a while,
-- for example because Redis was unavailable: answers could not be recorded either.
local function observe()
  if now - gate.looked > MAX_UNOBSERVED then set('answered', math.max(gate.answered, now)) end
  if now - gate.looked >= OBSERVE_EVERY then set('looked', now) end
end

-- calls_hang reports whether calls are in flight that FaceKi does not answer. It ignores
-- calls that began before the gate opened or longer ago than a call can take, and calls
-- whose process has had no heartbeat since the answer was due: that process may be dead. A
-- heartbeat in the future does not count, because it was stored before the clock went back.
local function calls_hang()
  local silence = math.max(2000, math.min(60000, 4 * gate.usual))
  if close_reason() ~= '' or now - gate.answered <= silence then return false end
  local from, to = ms(math.max(gate.opened, now - ANSWER_TIMEOUT)), '(' .. ms(now - silence)
  if redis.call('ZCOUNT', CALLS, from, to) < 5 then return false end
  local calls, heartbeats, hang = redis.call('ZRANGEBYSCORE', CALLS, from, to, 'WITHSCORES'), {}, 0
  for i = 1, #calls, 2 do
    local process = string.match(calls[i], '^%S+')
    if not heartbeats[process] then
      heartbeats[process] = tonumber(redis.call('ZSCORE', tag .. ':workers', process) or 0)
      if heartbeats[process] > now then heartbeats[process] = 0 end
    end
    if heartbeats[process] >= calls[i + 1] + silence then hang = hang + 1 end
  end
  return hang >= 5
end
