-- The state of an account's gate and rate limit in Redis:
--
--   :gate              hash, read once and written once by each script
--   :history           list of the changes of the last hour, at least MIN_HISTORY,
--                      "at state reason"
--   :unlogged          those of them that no process has logged yet
--   :line:<lane>       processes that wait for a token, by when they may get it (ms)
--   :calls             calls in flight, see calls.lua
--   :workers           the ledger's: processes by their last heartbeat (ms)
--   :refused:<credential>  hash: since, pause, next, prober, id, by, message, message_at,
--                      or only cleared
--
-- Times are ms since 1970, except the bucket's `at` and the held grants, which are µs.
--
-- uses: keys, clock
local us = clock[1] * 1000000 + clock[2]
local second = math.floor(us / 1000000)
local GATE = tag .. ':gate'
local WAITER_TTL, MAX_UNLOGGED = 250, 50
local HISTORY_TIME, MIN_HISTORY, MAX_HISTORY = 3600000, 50, 8000
local MAX_UNOBSERVED, OBSERVE_EVERY = 1000, 200
local CONNECT_TIMEOUT, ANSWER_TIMEOUT, MAX_WAIT = 10000, 75000, 1000
local RAMP_TIME, RAMP_AFTER = 5000, 10000
local REFUSED_PAUSE, REFUSAL_TTL = { first = 60000, max = 600000 }, 86400000
local FIRST_PAUSE = { outage = 5000, throttled = 1000, no_credit = 60000, limit_reached = 60000 }
local MAX_PAUSE = { outage = 60000, throttled = 60000, no_credit = 600000, limit_reached = 600000 }
local RANK = { outage = 1, throttled = 1, no_credit = 2, limit_reached = 2 }

-- The default of each field of the hash that is a number. All other fields are text,
-- and '' by default.
local DEFAULT = { n = 5, per = 1000, burst = 5, level = 0, at = 0, since = 0, closed = 0, opened = 0, next = 0, pause = 0,
  sent = 0, by = 0, throttles = 0, answered = 0, looked = 0, usual = 0, ['line:interactive'] = 0, ['line:bulk'] = 0, asked = 0 }
local USED = 'used:' .. second % 11

-- gate is the hash, as far as it was read; dirty names the fields that changed; changes
-- are those that were added to the history by this script, each {at, state, reason}.
local gate, dirty, changes = {}, {}, {}

local function set(name, value)
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

-- require_fields reads the named fields that have not been read. The first use of any other
-- field reads all of them.
local function require_fields(names)
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

-- store_gate writes what has changed. A script calls it once, at the end.
local function store_gate()
  local args = {}
  for name in pairs(dirty) do
    local value = gate[name]
    if type(value) == 'number' then value = string.format('%.17g', value) end
    args[#args + 1], args[#args + 2] = name, value
  end
  if #args > 0 then redis.call('HSET', GATE, unpack(args)) end
  dirty = {}
end

-- record_change adds a change to the history. It removes the oldest ones, a few at a time,
-- except the last one before the hour, which says how the hour began.
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

local function change_state(state, reason, at)
  if gate.state == state and gate.reason == reason then return end
  set('state', state) set('reason', reason) set('since', at)
  record_change(state, reason, at)
end
