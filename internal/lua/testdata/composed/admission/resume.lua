-- lua/memo.lua
local CONNECT_TIMEOUT, MAX_WAIT, RAMP_AFTER, MAX_PAUSE, REFUSAL_TTL, REFUSED_PAUSE, clear_probe, ANSWER_TIMEOUT, COMMON_FIELDS, RAMP_TIME, require_fields, store_gate, store_refusal, GATE, change_state, read_gate, refusal, FIRST_PAUSE, RANK, changes, dirty, memo, second, CALLS, clock, now, set, tag, ms, gate do
function memo(f)
  return setmetatable({}, { __index = function(results, x)
    local result = f(x)
    if type(x) ~= 'number' or x < 256 or x > 67108864 then results[x] = result end
    return result
  end })
end
-- lua/clock.lua
end do
clock = redis.call('TIME')
now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local TEXT = memo(function(n) return string.format('%.0f', n) end)
function ms(n) return TEXT[n] end
-- lua/keys.lua
end do
tag = KEYS[1]
local LANE = { i = 'interactive', b = 'bulk' }
local function record_key(id) return tag .. '/' .. id end
local function old_key(generation, id) return tag .. ':old:' .. generation .. ':' .. id end
local ACCOUNT = tag .. ':account'
local function account_key() return ACCOUNT end
local function batch_key(number) return tag .. ':batch:' .. number end
local QUEUED = memo(function(lane) return tag .. ':queued:' .. LANE[lane] end)
local function queued_key(lane) return QUEUED[lane] end
local function deadlines_key() return tag .. ':deadlines' end
-- admission/gate_state.lua
end do
local us = clock[1] * 1000000 + clock[2]
second = math.floor(us / 1000000)
GATE = tag .. ':gate'
local WAITER_TTL, MAX_UNLOGGED = 250, 50
local HISTORY_TIME, MIN_HISTORY, MAX_HISTORY = 3600000, 50, 8000
local MAX_UNOBSERVED, OBSERVE_EVERY = 1000, 200
CONNECT_TIMEOUT, ANSWER_TIMEOUT, MAX_WAIT = 10000, 75000, 1000
RAMP_TIME, RAMP_AFTER = 5000, 10000
REFUSED_PAUSE, REFUSAL_TTL = { first = 60000, max = 600000 }, 86400000
FIRST_PAUSE = { outage = 5000, throttled = 1000, no_credit = 60000, limit_reached = 60000 }
MAX_PAUSE = { outage = 60000, throttled = 60000, no_credit = 600000, limit_reached = 600000 }
RANK = { outage = 1, throttled = 1, no_credit = 2, limit_reached = 2 }
local DEFAULT = { n = 5, per = 1000, burst = 5, level = 0, at = 0, since = 0, closed = 0, opened = 0, next = 0, pause = 0,
  sent = 0, by = 0, throttles = 0, answered = 0, looked = 0, usual = 0, ['line:interactive'] = 0, ['line:bulk'] = 0, asked = 0 }
local USED = 'used:' .. second % 11
gate, dirty, changes = {}, {}, {}
function set(name, value)
  if gate[name] ~= value then gate[name], dirty[name] = value, true end
end
local function read_fields(names)
  local values = redis.call('HMGET', GATE, unpack(names))
  for i, name in ipairs(names) do
    local text, default = values[i], DEFAULT[name]
    if default then gate[name] = tonumber(text or default)
    elseif name == 'state' then gate[name] = text or 'open'
    else gate[name] = text or '' end
  end
end
function require_fields(names)
  local missing = {}
  for _, name in ipairs(names) do
    if rawget(gate, name) == nil then missing[#missing + 1] = name end
  end
  if #missing > 0 then read_fields(missing) end
  setmetatable(gate, { __index = function(_, name)
    setmetatable(gate, nil)
    local rest = { USED, 'held', 'under', 'prober', 'probe', 'row', 'last', 'refused', 'good' }
    for number in pairs(DEFAULT) do rest[#rest + 1] = number end
    missing = {}
    for _, other in ipairs(rest) do
      if gate[other] == nil then missing[#missing + 1] = other end
    end
    if #missing > 0 then read_fields(missing) end
    return gate[name]
  end })
end
function store_gate()
  local args = {}
  for name in pairs(dirty) do
    local value = gate[name]
    if type(value) == 'number' then value = string.format('%.17g', value) end
    args[#args + 1], args[#args + 2] = name, value
  end
  if #args > 0 then redis.call('HSET', GATE, unpack(args)) end
  dirty = {}
end
local function record_change(state, reason, at)
  redis.call('RPUSH', tag .. ':history', ms(at) .. ' ' .. state .. ' ' .. reason)
  local length = redis.call('LLEN', tag .. ':history')
  for _ = 1, math.min(10, length - MIN_HISTORY) do
    local second = tonumber(string.match(redis.call('LINDEX', tag .. ':history', 1), '^%d+'))
    if second > now - HISTORY_TIME and second <= now and length <= MAX_HISTORY then break end
    redis.call('LPOP', tag .. ':history')
    length = length - 1
  end
  redis.call('RPUSH', tag .. ':unlogged', ms(at) .. ' ' .. state .. ' ' .. reason)
  redis.call('LTRIM', tag .. ':unlogged', -MAX_UNLOGGED, -1)
  changes[#changes + 1] = { ms(at), state, reason }
end
function change_state(state, reason, at)
  if gate.state == state and gate.reason == reason then return end
  set('state', state) set('reason', reason) set('since', at)
  record_change(state, reason, at)
end
-- admission/calls.lua
end do
CALLS = tag .. ':calls'
local function call_name(process, id, nonce) return process .. ' ' .. id .. ' ' .. nonce end
local function is_granted(process, id, nonce)
  return nonce ~= '' and redis.call('ZSCORE', CALLS, call_name(process, id, nonce)) ~= false
end
local function remove_call(process, id, nonce, began)
  if nonce ~= '' then
    redis.call('ZREM', CALLS, call_name(process, id, nonce))
    return
  end
  local prefix = call_name(process, id, '')
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', CALLS, ms(began), ms(began))) do
    if string.sub(member .. ' ', 1, #prefix) == prefix then redis.call('ZREM', CALLS, member) end
  end
end
-- admission/gate_begin.lua
end do
local FURTHEST = { next = 600000, by = ANSWER_TIMEOUT } -- how far ahead these may be
local function shift_times(by)
  for _, name in ipairs({ 'since', 'closed', 'opened', 'answered', 'looked', 'asked', 'next', 'by' }) do
    if gate[name] > 0 then set(name, math.min(gate[name] - by, now + (FURTHEST[name] or 0))) end
  end
  for _, lane in ipairs({ 'interactive', 'bulk' }) do
    redis.call('DEL', tag .. ':line:' .. lane)
    set('line:' .. lane, 0)
  end
  local ahead = redis.call('ZRANGEBYSCORE', CALLS, '(' .. ms(now), '+inf', 'WITHSCORES')
  for i = 1, #ahead, 2 do redis.call('ZADD', CALLS, ms(math.min(ahead[i + 1] - by, now)), ahead[i]) end
  for credential in string.gmatch(gate.refused, '%S+') do
    local key = tag .. ':refused:' .. credential
    for i, at in ipairs(redis.call('HMGET', key, 'since', 'next', 'by')) do
      if at and tonumber(at) > 0 then redis.call('HSET', key, ({ 'since', 'next', 'by' })[i], ms(at - by)) end
    end
  end
end
COMMON_FIELDS = { 'state', 'reason', 'looked', 'answered' }
local fields_read = {}
function read_gate(fields)
  if fields_read[fields] then return end
  fields_read[fields] = true
  require_fields(fields)
  local ahead = math.max(gate.looked, gate.answered) - now
  if ahead > 0 then shift_times(ahead) end
  if gate.state == 'ramping' and now >= gate.opened + RAMP_TIME then
    change_state('open', '', gate.opened + RAMP_TIME)
  end
end
-- admission/gate.lua
end do
local function close_reason()
  if gate.reason == 'paused' then return gate.under end
  return gate.reason
end
function clear_probe() set('prober', '') set('probe', '') set('sent', 0) set('by', 0) end
local function close_gate(reason, wait, pause)
  if close_reason() == '' then set('closed', now) end
  set('pause', pause or wait)
  set('next', math.max(gate.next, now + wait))
  if gate.reason == 'paused' then set('under', reason) else change_state('closed', reason, now) end
end
local function longer_pause(reason) return math.min(MAX_PAUSE[reason], gate.pause * 2) end
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
-- admission/refusal.lua
end do
local function refusal_key(credential) return tag .. ':refused:' .. credential end
local function remove_refusal(credential)
  local rest = {}
  for other in string.gmatch(gate.refused, '%S+') do
    if other ~= credential then rest[#rest + 1] = other end
  end
  set('refused', table.concat(rest, ' '))
end
function refusal(credential)
  if gate.refused == '' then return nil end
  if not string.find(' ' .. gate.refused .. ' ', ' ' .. credential .. ' ', 1, true) then return nil end
  local v = redis.call('HMGET', refusal_key(credential), 'since', 'pause', 'next', 'prober', 'id', 'by')
  if v[1] then
    local since, pause, next, by = tonumber(v[1]), tonumber(v[2]), tonumber(v[3]), tonumber(v[6])
    if next > now + pause then next = now end -- further ahead than possible: the clock went back
    if by > now + ANSWER_TIMEOUT then by = 0 end
    return { since = math.min(since, now), pause = pause, next = next, prober = v[4], id = v[5], by = by }
  end
  remove_refusal(credential)
end
function store_refusal(credential, r)
  redis.call('HSET', refusal_key(credential), 'since', ms(r.since), 'pause', ms(r.pause), 'next', ms(r.next),
    'prober', r.prober, 'id', r.id, 'by', ms(r.by))
  if r.message then redis.call('HSET', refusal_key(credential), 'message', r.message, 'message_at', ms(now)) end
  redis.call('PEXPIRE', refusal_key(credential), REFUSAL_TTL)
end
-- admission/resume.lua
end
read_gate(COMMON_FIELDS)
if gate.reason == 'paused' then
  local under = gate.under
  set('under', '')
  change_state(under == '' and 'open' or 'closed', under, now)
end
if gate.reason ~= '' then
  clear_probe()
  set('next', now)
  set('pause', FIRST_PAUSE[gate.reason] / 2) -- it doubles after the next probe
end
for credential in string.gmatch(gate.refused, '%S+') do
  local r = refusal(credential)
  if r then
    r.prober, r.id, r.by = '', '', 0
    r.next, r.pause = now, REFUSED_PAUSE.first / 2
    store_refusal(credential, r)
  end
end
store_gate()
redis.call('HDEL', GATE, 'paused_by', 'paused_why')
return 'ok'
