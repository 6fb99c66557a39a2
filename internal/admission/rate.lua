-- The rate limit: the token bucket, and the processes that wait for a token.
--
-- uses: keys, clock, clock_step, gate_state

-- token_time is the time of one token at the rate in force now, in µs.
local function token_time()
  local part = 1
  if gate.state == 'ramping' then part = 0.1 + 0.9 * math.min(1, math.max(0, now - gate.opened) / RAMP_TIME) end
  return gate.per * 1000 / (gate.n * part)
end

-- max_ahead is how far in the future a grant may lie, in µs.
local function max_ahead() return math.min(20000, math.max(5000, token_time())) end

-- held_grants returns the times of the grants in the future, in order (µs).
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

-- settle_bucket brings the level up to date: it refills the bucket and takes the tokens of
-- the grants whose time has come. After a step of the clock the elapsed time is unknown;
-- then the bucket is empty, less the tokens of all held grants. The time of a script does
-- not change, so that further calls in it have nothing to do.
local settled = false
local function settle_bucket()
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

-- fits reports whether the held grants after the i-th still have their tokens if one
-- more is taken at s.
local function fits(times, i, level, at, s, per)
  level, at = refilled(level, s - at, per) - 1, s
  for j = i + 1, #times do
    level, at = refilled(level, times[j] - at, per) - 1, times[j]
    if level < 0 then return false end
  end
  return true
end

-- earliest_grant returns the first time from now on at which the level reaches `goal`, and
-- the number of held grants before that time, which is at least `from`.
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

-- count_used counts a token in those of this second.
local used
local function count_used()
  if not used then
    local sec, count = string.match(gate[USED], '(%d+) (%d+)')
    used = tonumber(sec) == second and tonumber(count) or 0
  end
  used = used + 1
  set(USED, ms(second) .. ' ' .. ms(used))
end

-- take_token takes a token at time s, after i held grants, and returns the ms until then.
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

local function waiters_key(lane) return tag .. ':line:' .. lane end

-- waiters returns the processes that wait in a lane, in order, each {process, due}. It
-- does not read them if the hash shows that there are none.
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

-- admit_by_rate takes a token, or adds the process to those that wait.
local function admit_by_rate(lane, process)
  settle_bucket()
  local need, times, from, place, own = 1, held_grants(), 0, 0, nil
  if lane == 'bulk' then need, from = 2 + #waiters('interactive'), #times end
  for _, waiter in ipairs(waiters(lane)) do
    if waiter[1] == process then own = waiter[2] break end
    place = place + 1
  end
  -- A process must leave a token for each process before it, unless the bucket is full:
  -- then a token that is not taken is lost.
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
