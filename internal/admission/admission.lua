-- The functions that other scripts call; all read and write in one step of theirs.
-- What admit and report change of the gate is kept by the caller, with store(),
-- after its last call of them: several are one reading and one writing then.
--
-- admit(lane, process, credential, id, nonce, connected) gives verdict, wait and
-- reason; the nonce is made for each request, and kept with what it is granted.
--   grant    send it, after holding it for `wait` ms: the token is of that moment
--   probe    the same, and it is the one call that finds out how things are
--   connect  you are to probe a closed gate, or credentials that were refused:
--            connect to FaceKi, then ask again with connected = 1, or report
--            'unconnected', within 10 s
--   wait     ask again after `wait` ms, at most 1000
-- wait is text with three decimals: a number in a reply is cut to an integer.
--
-- report(kind, id, process, nonce, credential, marked, retry_after, latency, message),
-- all times in ms, reports the outcome of a grant or a connect; nonce is the grant's, '' where
-- the caller does not know it, nil for a connect; the kinds are those of the Go Kind, and
-- message is the text of the fault, or nil. pause() and resume() are a person's. In rate.lua: set_rate(n, per, burst)
-- is a starting worker's, override_rate(n, per) and reset_rate() are a person's;
-- they give n, per and burst as they were. watch() looks for calls that hang,
-- which nobody would notice where every slot is with one, and gives n and per as
-- they are and the changes that no process has logged yet; one process of the
-- fleet calls it all the time. is_shut(credential) says whether a call with it
-- would have to wait for the gate.

local function decide(lane, process, credential, id, nonce, connected)
  if g.reason == 'paused' then return 'wait', SOON, 'paused' end
  look()
  if hanging() then failing('outage', false) end
  local r = refusal(credential)
  if r and now < r.next then return 'wait', math.min(SOON, r.next - now), 'refused' end
  local own = r and r.prober == process and r.id == id
  if r and r.by > now and not (own and r.by <= now + CONNECT) then return 'wait', SOON, 'refused' end
  if r and not (own and connected) then
    r.prober, r.id, r.by = process, id, now + CONNECT
    refuse(credential, r)
    return 'connect', 0, 'refused'
  end
  local verdict, wait, reason
  if g.state == 'closed' then
    verdict, wait, reason = probing(lane, process, id, connected)
  else
    verdict, wait, reason = by_rate(lane, process)
  end
  if verdict ~= 'grant' and verdict ~= 'probe' then return verdict, wait, reason end
  redis.call('ZADD', CALLS, ms(now), call(process, id, nonce))
  if not r then return verdict, wait, reason end
  r.prober, r.id, r.by = process, id, now + ANSWER
  refuse(credential, r)
  return 'probe', wait, 'refused'
end

local ASKED = { 'state', 'reason', 'looked', 'answered', 'usual', 'refused', 'n', 'per', 'burst', 'level', 'at', 'held',
  'line:interactive', 'line:bulk', USED }

local function admit(lane, process, credential, id, nonce, connected)
  begin(ASKED)
  local verdict, wait, reason = decide(lane, process, credential, id, nonce, tonumber(connected) == 1)
  return verdict, string.format('%.3f', wait), reason
end

local REPORTED = { 'state', 'reason', 'looked', 'answered', 'usual', 'throttles', 'good', 'refused', 'prober', 'opened', 'row', 'last' }
local SILENT = { outage = true, none = true, back = true, unconnected = true }

-- What is said of these is kept for the status; no script reads it.
local TOLD = { outage = true, throttle = true, refused = true, no_credit = true, limit_reached = true, unconnected = true }

local function report(kind, id, process, nonce, credential, marked, retry_after, latency, message)
  marked, retry_after, latency = tonumber(marked), tonumber(retry_after), tonumber(latency)
  begin(REPORTED)
  if nonce then returned(process, id, nonce, marked) end
  if not SILENT[kind] then set('answered', now) end
  if kind == 'success' or kind == 'alive' then
    learn(latency)
    set('throttles', math.max(0, g.throttles - 0.25))
    set('good', credential) -- for the status alone
  end
  if not TOLD[kind] or message == '' then message = nil end
  judge(kind, id, process, credential, marked, message)
  if message and (marked >= g.opened or is_probe(id, process)) then
    g.message, g.message_at, dirty.message, dirty.message_at = message, now, true, true
  end
  if is_probe(id, process) then
    conclude_probe(kind, retry_after)
  elseif marked >= g.opened then
    if kind == 'throttle' then throttled(false, retry_after)
    elseif kind == 'no_credit' or kind == 'limit_reached' then failing(kind, false)
    elseif reason_now() ~= '' then -- what was sent before it closed says nothing new
    elseif kind == 'outage' then weigh(false, id)
    elseif kind == 'success' or kind == 'alive' then weigh(true, id) end
  end
end

local function pause()
  begin(STATE)
  if g.reason ~= 'paused' then
    settle()
    set('under', g.reason)
    free_probe()
    turn('closed', 'paused', now)
  end
  store()
end

local function resume()
  begin(STATE)
  if g.reason == 'paused' then
    local under = g.under
    set('under', '')
    turn(under == '' and 'open' or 'closed', under, now)
  end
  if g.reason ~= '' then
    free_probe()
    set('next', now)
    set('pause', FIRST[g.reason] / 2) -- the next is twice as long
  end
  for credential in string.gmatch(g.refused, '%S+') do
    local r = refusal(credential)
    if r then
      r.prober, r.id, r.by = '', '', 0
      r.next, r.pause = now, REFUSED[1] / 2
      refuse(credential, r)
    end
  end
  store()
end

local WATCHED = { 'state', 'reason', 'looked', 'answered', 'usual', 'n', 'per' }

local function watch()
  begin(WATCHED)
  look()
  if g.state ~= 'closed' and hanging() then failing('outage', false) end
  store()
  return g.n, g.per, redis.call('LPOP', tag .. ':unlogged', HISTORY) or {}
end

local function in_force()
  local rate = redis.call('HMGET', GATE, 'n', 'per')
  return tonumber(rate[1] or 5), tonumber(rate[2] or 1000)
end

local function is_shut(credential)
  begin(STATE)
  return g.state == 'closed' or refusal(credential) ~= nil
end
