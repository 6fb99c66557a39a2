-- The state of one account in Redis; every other key starts with its tag, too:
--
--   :gate              hash, read once and written once by each function
--   :history           list of the last changes, "at state reason"
--   :unlogged          those of them that no process has logged yet
--   :line:<lane>       processes that were told to come again, by when they may win (ms)
--   :calls             the calls that are out, "process id", by when they were marked (ms);
--                      what died with its process stays until the ledger's sweep has seen to it
--   :workers           the ledger's: the processes by their last heartbeat (ms)
--   :refused:<credential>  hash: since, pause, next, prober, id, by, or only cleared
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

local NUMBERS = { 'n', 'per', 'burst', 'level', 'at', 'since', 'closed', 'opened', 'next', 'pause', 'sent', 'by',
  'throttles', 'answered', 'looked', 'usual', 'line:interactive', 'line:bulk', 'asked' }
local TEXTS = { 'held', 'state', 'reason', 'under', 'prober', 'probe', 'row', 'last', 'refused', 'good' }
local second = math.floor(us / 1000000)
local USED = 'used:' .. second % 11

local g, dirty

local function set(name, value)
  if g[name] ~= value then g[name], dirty[name] = value, true end
end

local function read()
  local names = { USED }
  for _, name in ipairs(TEXTS) do names[#names + 1] = name end
  for _, name in ipairs(NUMBERS) do names[#names + 1] = name end
  local values = redis.call('HMGET', GATE, unpack(names))
  g, dirty = {}, {}
  for i, name in ipairs(names) do
    if i <= 1 + #TEXTS then g[name] = values[i] or '' else g[name] = tonumber(values[i] or 0) end
  end
  if g.state == '' then g.state = 'open' end
  if g.n == 0 then set('n', 5) set('per', 1000) set('burst', 5) end
end

local function write()
  local args = {}
  for name in pairs(dirty) do
    local value = g[name]
    if type(value) == 'number' then value = string.format('%.17g', value) end
    args[#args + 1], args[#args + 2] = name, value
  end
  if #args > 0 then redis.call('HSET', GATE, unpack(args)) end
end

local function call(process, id) return process .. ' ' .. id end

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

-- begin reads the state, and ends a ramp whose time is over.
local function begin()
  read()
  if g.state == 'ramping' and now >= g.opened + RAMP then
    turn('open', '', g.opened + RAMP)
  end
end
