-- The gate. See gate.go.

-- reason_now is why FaceKi is not called, whether a person paused or not.
local function reason_now()
  if g.reason == 'paused' then return g.under end
  return g.reason
end

local function free_probe() set('prober', '') set('probe', '') set('sent', 0) set('by', 0) end

-- shut closes for at least `pause` ms; under a person's pause it is remembered.
local function shut(reason, wait, growing)
  if reason_now() == '' then set('closed', now) end
  set('pause', growing or wait)
  set('next', math.max(g.next, now + wait))
  if g.reason == 'paused' then set('under', reason) else turn('closed', reason, now) end
end

local function reopen()
  local ramp = now - g.closed > RAMP_AFTER and g.n * 1000 >= 2 * g.per
  set('opened', now) set('answered', now) set('row', '') set('last', '') set('pause', 0) set('next', 0)
  turn(ramp and 'ramping' or 'open', '', now)
end

local function longer(reason) return math.min(MOST[reason], g.pause * 2) end

-- failing is what a fault that closes does: `probed` says that the probe met it,
-- `least` for how long to stay closed, where FaceKi said so.
local function failing(reason, probed, least)
  local current = reason_now()
  if current == '' then
    shut(reason, least or FIRST[reason])
  elseif probed and RANK[reason] >= RANK[current] then
    local wait = least or (reason == current and longer(reason)) or FIRST[reason]
    shut(reason, wait)
  elseif probed then
    local wait = longer(current)
    shut(current, math.max(wait, least or 0), wait)
  elseif RANK[reason] > RANK[current] then
    shut(reason, FIRST[reason])
  elseif least then
    set('next', math.max(g.next, now + least))
  end
end

-- throttled: the pause doubles with each 429, and four successes forgive one.
-- More of them from calls that were out are one.
local function throttled(probed, retry_after)
  if probed or reason_now() == '' then set('throttles', g.throttles + 1) end
  local wait = math.min(MOST.throttled, FIRST.throttled * 2 ^ math.min(10, math.max(0, math.floor(g.throttles) - 1)))
  if retry_after > 0 then wait = math.min(600000, math.max(1000, retry_after)) end
  failing('throttled', probed, wait)
end

-- weigh keeps the last 20, and the ids of the present row of faults.
local function weigh(good, id)
  set('last', string.sub(g.last .. (good and 's' or 'f'), -20))
  if good then set('row', '') return end
  local row = {}
  for other in string.gmatch(g.row, '[^\n]+') do
    row[#row + 1] = other
    if other == id then id = nil end
  end
  row[#row + 1] = id
  set('row', table.concat(row, '\n'))
  local _, faults = string.gsub(g.last, 'f', '')
  if #row >= 5 or faults >= 14 then failing('outage', false) end
end

-- look keeps the clock of silence: it starts anew where nobody has looked for a
-- while, as when Redis was away, since answers could not be recorded either.
local function look()
  if now - g.looked > UNSEEN then set('answered', math.max(g.answered, now)) end
  if now - g.looked >= LOOK then set('looked', now) end
end

-- hanging: calls are out, and FaceKi is silent. What was out before the gate
-- opened, or for longer than a call may take, has died with its process; so may
-- have what is out for a process that has not beaten since it should be answered. A
-- heartbeat of the future is from before the clock went back.
local function hanging()
  local silence = math.max(2000, math.min(60000, 4 * g.usual))
  if reason_now() ~= '' or now - g.answered <= silence then return false end
  local from, to = ms(math.max(g.opened, now - ANSWER)), '(' .. ms(now - silence)
  if redis.call('ZCOUNT', CALLS, from, to) < 5 then return false end
  local out, beats, hang = redis.call('ZRANGEBYSCORE', CALLS, from, to, 'WITHSCORES'), {}, 0
  for i = 1, #out, 2 do
    local process = string.match(out[i], '^%S+')
    if not beats[process] then
      beats[process] = tonumber(redis.call('ZSCORE', tag .. ':workers', process) or 0)
      if beats[process] > now then beats[process] = 0 end
    end
    if beats[process] >= out[i + 1] + silence then hang = hang + 1 end
  end
  return hang >= 5
end

-- probing chooses who probes a closed gate, and lets that one call go.
local function probing(lane, process, id, connected)
  local chosen = g.prober == process and g.sent == 0
  local busy = g.prober ~= '' and g.by > now
  if lane == 'interactive' then set('asked', now) end
  if not (chosen and connected) then
    if chosen and busy and g.probe == id then return 'connect', 0, g.reason end
    if busy then return 'wait', SOON, g.reason end
    if now < g.next then return 'wait', math.min(SOON, g.next - now), g.reason end
    if lane == 'bulk' and now - g.asked < SOON + FRESH then return 'wait', SOON, g.reason end
  end
  settle()
  local times = held()
  local s, i = earliest(1, times, 0)
  if s - us > ahead() then
    return 'wait', math.min(SOON, math.max(1, (s - us - ahead()) / 1000)), g.reason
  end
  set('prober', process) set('probe', id)
  if chosen and connected then
    set('sent', 1) set('by', now + ANSWER)
    return 'probe', take(s, i, times), g.reason
  end
  set('sent', 0) set('by', now + CONNECT)
  return 'connect', 0, g.reason
end

-- learn moves the estimate of the p99 a twentieth up for a slower answer, and
-- as little down for a faster one as holds it where one in a hundred is slower.
local function learn(latency)
  if latency <= 0 then return end
  if g.usual == 0 then set('usual', latency)
  elseif latency > g.usual then set('usual', math.min(latency, g.usual * 1.05))
  else set('usual', g.usual * 0.9995) end
end

-- conclude_probe is for the one call, or connect, that was to find out.
local function conclude_probe(kind, retry_after)
  free_probe()
  if kind == 'success' or kind == 'alive' then reopen()
  elseif kind == 'throttle' then throttled(true, retry_after)
  elseif kind == 'none' then set('next', now + g.pause)
  elseif kind == 'back' or kind == 'refused' then set('next', now)
  elseif kind == 'unconnected' then failing('outage', true)
  else failing(kind, true) end
end

local function is_probe(id, process)
  return g.prober ~= '' and g.prober == process and g.probe == id
end
