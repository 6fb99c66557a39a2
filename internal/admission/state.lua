-- The state of one account in Redis; every other key starts with its tag, too:
--
--   :gate              hash, read once and written once by each function
--   :history           list of the last changes, "at state reason"
--   :unlogged          those of them that no process has logged yet
--   :line:<lane>       processes that were told to come again, by when they may win (ms)
--   :calls             the calls that are out, "process id nonce", by when they were marked (ms);
--                      what died with its process stays until the ledger's sweep has seen to it.
--                      The nonce is the admission request's that was granted; an earlier version
--                      wrote none
--   :workers           the ledger's: the processes by their last heartbeat (ms)
--   :refused:<credential>  hash: since, pause, next, prober, id, by, message, message_at, or only cleared
--
-- Times are ms since 1970, but level's `at` and the held grants, which are us.
local us = clock[1] * 1000000 + clock[2]
local GATE, CALLS = tag .. ':gate', tag .. ':calls'
local FRESH, HISTORY = 250, 50
local UNSEEN, LOOK = 1000, 200
local CONNECT, ANSWER, SOON = 10000, 75000, 1000
local RAMP, RAMP_AFTER = 15000, 10000
local REFUSED, FORGOTTEN = { 60000, 600000 }, 86400000
local FIRST = { outage = 5000, throttled = 1000, no_credit = 60000, limit_reached = 60000 }
local MOST = { outage = 60000, throttled = 60000, no_credit = 600000, limit_reached = 600000 }
local RANK = { outage = 1, throttled = 1, no_credit = 2, limit_reached = 2 }

-- What a field is where it never was set; what is not named here is text, and ''.
local NUMBER = { n = 5, per = 1000, burst = 5, level = 0, at = 0, since = 0, closed = 0, opened = 0, next = 0, pause = 0,
  sent = 0, by = 0, throttles = 0, answered = 0, looked = 0, usual = 0, ['line:interactive'] = 0, ['line:bulk'] = 0, asked = 0 }
local second = math.floor(us / 1000000)
local USED = 'used:' .. second % 11

-- g is the gate's hash, dirty what has changed of it, changes what was added to
-- the history in this run, each {at, state, reason}.
local g, dirty, changes = {}, {}, {}

local function set(name, value)
  if g[name] ~= value then g[name], dirty[name] = value, true end
end

local function keep(name, text)
  local absent = NUMBER[name]
  if absent then g[name] = tonumber(text or absent)
  elseif name == 'state' then g[name] = text or 'open'
  else g[name] = text or '' end
  return g[name]
end

local function get(names)
  local values = redis.call('HMGET', GATE, unpack(names))
  for i, name in ipairs(names) do keep(name, values[i]) end
end

-- read gets what is needed in any case and was not read yet, and all the rest once
-- any of it is.
local function read(names)
  local missing = {}
  for _, name in ipairs(names) do
    if rawget(g, name) == nil then missing[#missing + 1] = name end
  end
  if #missing > 0 then get(missing) end
  setmetatable(g, { __index = function(_, name)
    setmetatable(g, nil)
    local rest = { USED, 'held', 'under', 'prober', 'probe', 'row', 'last', 'refused', 'good' }
    for number in pairs(NUMBER) do rest[#rest + 1] = number end
    missing = {}
    for _, other in ipairs(rest) do
      if g[other] == nil then missing[#missing + 1] = other end
    end
    if #missing > 0 then get(missing) end
    return g[name]
  end })
end

local function store()
  local args = {}
  for name in pairs(dirty) do
    local value = g[name]
    if type(value) == 'number' then value = string.format('%.17g', value) end
    args[#args + 1], args[#args + 2] = name, value
  end
  if #args > 0 then redis.call('HSET', GATE, unpack(args)) end
  dirty = {}
end

local function call(process, id, nonce) return process .. ' ' .. id .. ' ' .. nonce end

-- is_granted says whether the request's call that is out was granted to this very
-- admission request: whoever made the nonce, and sent nothing, knows that no call
-- followed. No time can tell that: Redis may have lost its last writes.
local function is_granted(process, id, nonce)
  return nonce ~= '' and redis.call('ZSCORE', CALLS, call(process, id, nonce)) ~= false
end

-- returned takes a call off the set. nonce is '' where another process ends it,
-- which finds it by when it was marked.
local function returned(process, id, nonce, marked)
  if nonce ~= '' then
    redis.call('ZREM', CALLS, call(process, id, nonce))
    return
  end
  local prefix = call(process, id, '')
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', CALLS, ms(marked), ms(marked))) do
    if string.sub(member .. ' ', 1, #prefix) == prefix then redis.call('ZREM', CALLS, member) end
  end
end

local function note(state, reason, at)
  redis.call('RPUSH', tag .. ':history', ms(at) .. ' ' .. state .. ' ' .. reason)
  redis.call('LTRIM', tag .. ':history', -HISTORY, -1)
  redis.call('RPUSH', tag .. ':unlogged', ms(at) .. ' ' .. state .. ' ' .. reason)
  redis.call('LTRIM', tag .. ':unlogged', -HISTORY, -1)
  changes[#changes + 1] = { ms(at), state, reason }
end

local function turn(state, reason, at)
  if g.state == state and g.reason == reason then return end
  set('state', state) set('reason', reason) set('since', at)
  note(state, reason, at)
end

-- rebase is for a clock that went back, by about as much: all that is stored of it moves
-- along, so that pauses, ages and the silence last as long as they would have. The bucket
-- starts empty, see settle, and whoever waits for the rate enters its line again.
local LATEST = { next = 600000, by = ANSWER } -- what may lie ahead, and how far at most
local function rebase(by)
  for _, name in ipairs({ 'since', 'closed', 'opened', 'answered', 'looked', 'asked', 'next', 'by' }) do
    if g[name] > 0 then set(name, math.min(g[name] - by, now + (LATEST[name] or 0))) end
  end
  for _, lane in ipairs({ 'interactive', 'bulk' }) do
    redis.call('DEL', tag .. ':line:' .. lane)
    set('line:' .. lane, 0)
  end
  local calls = redis.call('ZRANGEBYSCORE', CALLS, '(' .. ms(now), '+inf', 'WITHSCORES')
  for i = 1, #calls, 2 do redis.call('ZADD', CALLS, ms(math.min(calls[i + 1] - by, now)), calls[i]) end
  for credential in string.gmatch(g.refused, '%S+') do
    local key = tag .. ':refused:' .. credential
    for i, at in ipairs(redis.call('HMGET', key, 'since', 'next', 'by')) do
      if at and tonumber(at) > 0 then redis.call('HSET', key, ({ 'since', 'next', 'by' })[i], ms(at - by)) end
    end
  end
end

local STATE = { 'state', 'reason', 'looked', 'answered' }

-- begin reads what is needed of the state, sees that the clock went back by what
-- was noted a moment before, and ends a ramp whose time is over.
local function begin(names)
  read(names)
  local ahead = math.max(g.looked, g.answered) - now
  if ahead > 0 then rebase(ahead) end
  if g.state == 'ramping' and now >= g.opened + RAMP then
    turn('open', '', g.opened + RAMP)
  end
end
