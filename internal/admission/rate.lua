-- The rate: the bucket, and the lines before it. See bucket.go and line.go.

-- slot is how many us one token takes at the rate in force now.
local function slot()
  local part = 1
  if g.state == 'ramping' then part = 0.1 + 0.9 * math.min(1, math.max(0, now - g.opened) / RAMP) end
  return g.per * 1000 / (g.n * part)
end

-- ahead is how far in the future a grant may lie.
local function ahead() return math.min(20000, math.max(5000, slot())) end

local function held()
  local out = {}
  for s in string.gmatch(g.held, '%d+') do out[#out + 1] = tonumber(s) end
  return out
end

local function hold(times)
  local out = {}
  for i, s in ipairs(times) do out[i] = ms(s) end
  set('held', table.concat(out, ' '))
end

local function fill(level, elapsed, per) return math.min(g.burst, level + elapsed / per) end

-- settle brings the level to now: refilled, and without the grants whose moment came.
-- A step of the clock says nothing of how much to refill: then nothing is left, and what
-- was granted ahead is still to be paid.
local function settle()
  if g.at == 0 or g.at > us or leapt() then
    set('level', math.min(0, g.level) - #held()) set('at', us) set('held', '')
    return
  end
  local per, level, at, rest = slot(), g.level, g.at, {}
  for _, s in ipairs(held()) do
    if s <= us then level, at = fill(level, s - at, per) - 1, s else rest[#rest + 1] = s end
  end
  set('level', fill(level, us - at, per))
  set('at', us)
  hold(rest)
end

-- fits says whether the held grants after the i-th still have their tokens when
-- one more is taken at s.
local function fits(times, i, level, at, s, per)
  level, at = fill(level, s - at, per) - 1, s
  for j = i + 1, #times do
    level, at = fill(level, times[j] - at, per) - 1, times[j]
    if level < 0 then return false end
  end
  return true
end

-- earliest is the first moment from now on at which the level is `goal`, after
-- `from` of the held grants at least.
local function earliest(goal, times, from)
  local per, level, at = slot(), g.level, g.at
  for i = 0, #times do
    if i > 0 then level, at = fill(level, times[i] - at, per) - 1, times[i] end
    if i >= from then
      local s = at + math.ceil(math.max(0, goal - level) * per)
      if i == #times then return s, i end
      if s <= times[i + 1] and fits(times, i, level, at, s, per) then return s, i end
    end
  end
end

local function take(s, i, times)
  if s <= us then
    set('level', g.level - 1)
  else
    table.insert(times, i + 1, s)
    hold(times)
  end
  local sec, count = string.match(g[USED], '(%d+) (%d+)')
  if tonumber(sec) ~= second then count = 0 end
  set(USED, string.format('%.0f %d', second, count + 1))
  return (s - us) / 1000
end

local function line_key(lane) return tag .. ':line:' .. lane end

-- line gives the fresh entries of a lane in order, without asking for them where
-- the hash knows that there are none.
local function line(lane)
  local out, stale = {}, false
  if g['line:' .. lane] < now then return out end
  local entries = redis.call('ZRANGE', line_key(lane), 0, -1, 'WITHSCORES')
  for i = 1, #entries, 2 do
    local due = tonumber(entries[i + 1])
    if due + FRESH >= now then out[#out + 1] = { entries[i], due } else stale = true end
  end
  if stale then redis.call('ZREMRANGEBYSCORE', line_key(lane), '-inf', '(' .. ms(now - FRESH)) end
  return out
end

local function enter(lane, process, due)
  redis.call('ZADD', line_key(lane), ms(due), process)
  set('line:' .. lane, math.max(g['line:' .. lane], due + FRESH))
end

-- by_rate takes a token or a place in the line.
local function by_rate(lane, process)
  settle()
  local need, times, from, place, own = 1, held(), 0, 0, nil
  if lane == 'bulk' then need, from = 2 + #line('interactive'), #times end
  for _, entry in ipairs(line(lane)) do
    if entry[1] == process then own = entry[2] break end
    place = place + 1
  end
  -- Who comes out of turn takes only what those before it leave, unless the
  -- bucket is full: a token that nobody takes is lost.
  local goal = math.max(need, math.min(need + place, g.burst))
  local s, i = earliest(goal, times, from)
  if goal <= g.burst and s - us <= ahead() then
    if own then redis.call('ZREM', line_key(lane), process) end
    return 'grant', take(s, i, times), ''
  end
  local due = s + (need + place - goal) * slot()
  local wait = math.min(SOON, math.max(1, (due - us - ahead()) / 1000))
  local entry = own and math.max(own, math.ceil(now + wait)) or math.ceil(due / 1000)
  if entry ~= own then enter(lane, process, entry) end
  return 'wait', wait, 'rate'
end

-- change_rate refills at the old rate up to now, and gives the old rate. The
-- lines are of the old rate, too: whoever waits enters again when it asks.
local function change_rate(n, per, burst)
  begin(STATE)
  settle()
  local old = { ms(g.n), ms(g.per), ms(g.burst) }
  set('n', n) set('per', per) set('burst', burst or g.burst)
  dirty.n, dirty.per, dirty.burst = true, true, true -- also where they are what is taken for granted
  set('level', math.min(g.level, g.burst))
  redis.call('DEL', line_key('interactive'), line_key('bulk'))
  set('line:interactive', 0) set('line:bulk', 0)
  store()
  return old
end

-- gives what a worker set before, and not what a person did; zeros where none did
local function set_rate(n, per, burst)
  n, per, burst = tonumber(n), tonumber(per), tonumber(burst)
  local was = redis.call('HMGET', GATE, 'set:n', 'set:per')
  redis.call('HSET', GATE, 'set:n', ms(n), 'set:per', ms(per))
  local over = redis.call('HMGET', GATE, 'over:n', 'over:per')
  if over[1] then n, per = tonumber(over[1]), tonumber(over[2]) end
  local old = change_rate(n, per, burst)
  return { was[1] or '0', was[2] or '0', was[1] and old[3] or '0' }
end

local function override_rate(n, per)
  n, per = tonumber(n), tonumber(per)
  redis.call('HSET', GATE, 'over:n', ms(n), 'over:per', ms(per))
  return change_rate(n, per)
end

local function reset_rate()
  local own = redis.call('HMGET', GATE, 'set:n', 'set:per')
  redis.call('HDEL', GATE, 'over:n', 'over:per')
  return change_rate(tonumber(own[1] or 5), tonumber(own[2] or 1000))
end
