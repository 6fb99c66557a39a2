-- lua/memo.lua
local CONNECT_TIMEOUT, RAMP_AFTER, ANSWER_TIMEOUT, MAX_UNLOGGED, MAX_WAIT, change_state, clock_jumped_ahead, COMMON_FIELDS, change_rate, require_fields, store_gate, DEFAULT, RAMP_TIME, USED, WAITER_TTL, read_gate, changes, settle_bucket, memo, CALLS, waiters_key, dirty, GATE, second, us, now, clock, tag, set, ms, gate do
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
us = clock[1] * 1000000 + clock[2]
second = math.floor(us / 1000000)
GATE = tag .. ':gate'
WAITER_TTL, MAX_UNLOGGED = 250, 50
local HISTORY_TIME, MIN_HISTORY, MAX_HISTORY = 3600000, 50, 8000
local MAX_UNOBSERVED, OBSERVE_EVERY = 1000, 200
CONNECT_TIMEOUT, ANSWER_TIMEOUT, MAX_WAIT = 10000, 75000, 1000
RAMP_TIME, RAMP_AFTER = 5000, 10000
local REFUSED_PAUSE, REFUSAL_TTL = { first = 60000, max = 600000 }, 86400000
local FIRST_PAUSE = { outage = 5000, throttled = 1000, no_credit = 60000, limit_reached = 60000 }
local MAX_PAUSE = { outage = 60000, throttled = 60000, no_credit = 600000, limit_reached = 600000 }
local RANK = { outage = 1, throttled = 1, no_credit = 2, limit_reached = 2 }
DEFAULT = { n = 5, per = 1000, burst = 5, level = 0, at = 0, since = 0, closed = 0, opened = 0, next = 0, pause = 0,
  sent = 0, by = 0, throttles = 0, answered = 0, looked = 0, usual = 0, ['line:interactive'] = 0, ['line:bulk'] = 0, asked = 0 }
USED = 'used:' .. second % 11
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
-- lua/clock_step.lua
end do
local expected, MAX_DRIFT = 0, 500
local function clock_stepped() return expected > 0 and math.abs(now - expected) > MAX_DRIFT end
function clock_jumped_ahead() return expected > 0 and now - expected > MAX_DRIFT end
-- admission/rate.lua
end do
local function token_time()
  local part = 1
  if gate.state == 'ramping' then part = 0.1 + 0.9 * math.min(1, math.max(0, now - gate.opened) / RAMP_TIME) end
  return gate.per * 1000 / (gate.n * part)
end
local function max_ahead() return math.min(20000, math.max(5000, token_time())) end
local function held_grants()
  local out = {}
  if gate.held == '' then return out end
  for at in string.gmatch(gate.held, '%d+') do out[#out + 1] = tonumber(at) end
  return out
end
local function set_held_grants(times)
  local out = {}
  for i, at in ipairs(times) do out[i] = ms(at) end
  set('held', table.concat(out, ' '))
end
local function refilled(level, elapsed, per) return math.min(gate.burst, level + elapsed / per) end
local settled = false
function settle_bucket()
  if settled then return end
  settled = true
  if gate.at == 0 or gate.at > us or clock_jumped_ahead() then
    set('level', math.min(0, gate.level) - #held_grants()) set('at', us) set('held', '')
    return
  end
  local per, level, at, rest = token_time(), gate.level, gate.at, {}
  for _, s in ipairs(held_grants()) do
    if s <= us then level, at = refilled(level, s - at, per) - 1, s else rest[#rest + 1] = s end
  end
  set('level', refilled(level, us - at, per))
  set('at', us)
  set_held_grants(rest)
end
local function fits(times, i, level, at, s, per)
  level, at = refilled(level, s - at, per) - 1, s
  for j = i + 1, #times do
    level, at = refilled(level, times[j] - at, per) - 1, times[j]
    if level < 0 then return false end
  end
  return true
end
local function earliest_grant(goal, times, from)
  local per, level, at = token_time(), gate.level, gate.at
  for i = 0, #times do
    if i > 0 then level, at = refilled(level, times[i] - at, per) - 1, times[i] end
    if i >= from then
      local s = at + math.ceil(math.max(0, goal - level) * per)
      if i == #times then return s, i end
      if s <= times[i + 1] and fits(times, i, level, at, s, per) then return s, i end
    end
  end
end
local used
local function count_used()
  if not used then
    local sec, count = string.match(gate[USED], '(%d+) (%d+)')
    used = tonumber(sec) == second and tonumber(count) or 0
  end
  used = used + 1
  set(USED, ms(second) .. ' ' .. ms(used))
end
local function take_token(s, i, times)
  if s <= us then
    set('level', gate.level - 1)
  else
    table.insert(times, i + 1, s)
    set_held_grants(times)
  end
  count_used()
  return (s - us) / 1000
end
function waiters_key(lane) return tag .. ':line:' .. lane end
local function waiters(lane)
  local out, stale = {}, false
  if gate['line:' .. lane] < now then return out end
  local entries = redis.call('ZRANGE', waiters_key(lane), 0, -1, 'WITHSCORES')
  for i = 1, #entries, 2 do
    local due = tonumber(entries[i + 1])
    if due + WAITER_TTL >= now then out[#out + 1] = { entries[i], due } else stale = true end
  end
  if stale then redis.call('ZREMRANGEBYSCORE', waiters_key(lane), '-inf', '(' .. ms(now - WAITER_TTL)) end
  return out
end
local function add_waiter(lane, process, due)
  redis.call('ZADD', waiters_key(lane), ms(due), process)
  set('line:' .. lane, math.max(gate['line:' .. lane], due + WAITER_TTL))
end
local function admit_by_rate(lane, process)
  settle_bucket()
  local need, times, from, place, own = 1, held_grants(), 0, 0, nil
  if lane == 'bulk' then need, from = 2 + #waiters('interactive'), #times end
  for _, waiter in ipairs(waiters(lane)) do
    if waiter[1] == process then own = waiter[2] break end
    place = place + 1
  end
  local goal = math.max(need, math.min(need + place, gate.burst))
  local s, i = earliest_grant(goal, times, from)
  if goal <= gate.burst and s - us <= max_ahead() then
    if own then redis.call('ZREM', waiters_key(lane), process) end
    return 'grant', take_token(s, i, times), ''
  end
  local due = s + (need + place - goal) * token_time()
  local wait = math.min(MAX_WAIT, math.max(1, (due - us - max_ahead()) / 1000))
  local listed = own and math.max(own, math.ceil(now + wait)) or math.ceil(due / 1000)
  if listed ~= own then add_waiter(lane, process, listed) end
  return 'wait', wait, 'rate'
end
-- admission/rate_settings.lua
end do
function change_rate(n, per, burst)
  read_gate(COMMON_FIELDS)
  settle_bucket()
  local old = { ms(gate.n), ms(gate.per), ms(gate.burst) }
  set('n', n) set('per', per) set('burst', burst or gate.burst)
  dirty.n, dirty.per, dirty.burst = true, true, true -- stored also if they equal the defaults
  set('level', math.min(gate.level, gate.burst))
  redis.call('DEL', waiters_key('interactive'), waiters_key('bulk'))
  set('line:interactive', 0) set('line:bulk', 0)
  store_gate()
  return old
end
-- admission/override_rate.lua
end
local n, per, burst = unpack(ARGV)
n, per, burst = tonumber(n), tonumber(per), tonumber(burst)
redis.call('HSETNX', GATE, 'set:burst', redis.call('HGET', GATE, 'burst') or ms(DEFAULT.burst))
redis.call('HSET', GATE, 'over:n', ms(n), 'over:per', ms(per))
if burst > 0 then
  redis.call('HSET', GATE, 'over:burst', ms(burst))
else
  redis.call('HDEL', GATE, 'over:burst')
  burst = tonumber(redis.call('HGET', GATE, 'set:burst'))
end
return change_rate(n, per, burst)
