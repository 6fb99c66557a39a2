-- What scripts share. KEYS[1] is the account's tag; every other key
-- is made from it, so all of them live in its slot.
--
-- The header, columns from 1 (numbers are decimal, padded with zeros):
--    1 version   2 state   3 lane    4 'x': cancel asked, else '-'
--    5 generation (3)   8 run (3)   11 turn (4)   15 attempts (5)   20 spent (2)
--   22 possible duplicates (4)   26 batch (6)   32 successes seen (10)
--   42 accepted at, ms (13)      55 changed at, ms (13)   68 holder (6)
--   74 'd': has its own not_after, kept in the deadlines; 'n': a person dropped it, and
--      its batch's; else '-', and its batch's holds
-- State: w waiting, q queued, c calling, h held, C created, F failed, X cancelled.
local tag = KEYS[1]
local HEADER = 74

local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)

-- What the process that runs the script takes Redis' time for, in ms, by its monotonic
-- clock; 0 if it does not know. Redis' clock has stepped if it is off that by more than
-- what a slow network explains; leapt is a step forward.
local expected, STEP = 0, 500
local function stepped() return expected > 0 and math.abs(now - expected) > STEP end
local function leapt() return expected > 0 and now - expected > STEP end

local function record_key(id) return tag .. '/' .. id end
local function batch_key(n) return tag .. ':batch:' .. n end
local function ms(n) return string.format('%.0f', n) end

local LANE = { i = 'interactive', b = 'bulk' }
local NAME = { w = 'waiting', q = 'queued', c = 'calling', h = 'held', C = 'created', F = 'failed', X = 'cancelled' }
local ENDED = { C = true, F = true, X = true }

local function deadlines_key() return tag .. ':deadlines' end
-- The batches that have a not_after, by when they are to be looked through for it.
local function batch_deadlines_key() return tag .. ':batch-deadlines' end
local function running_key() return tag .. ':running' end
local function account_key() return tag .. ':account' end
local function again_key(n) return tag .. ':again:' .. n end
local function order_key(n) return tag .. ':order:' .. n end
local function joined_key(n) return tag .. ':joined:' .. n end
local function old_key(gen, id) return tag .. ':old:' .. gen .. ':' .. id end
local function queued_key(lane) return tag .. ':queued:' .. LANE[lane] end

-- A script fails on a record of another version before it changes anything.
local function parse(raw)
  if string.sub(raw, 1, 1) ~= '1' then error('record of an unknown version', 0) end
  local function n(i, j) return tonumber(string.sub(raw, i, j)) end
  return {
    state = string.sub(raw, 2, 2), lane = string.sub(raw, 3, 3), flag = string.sub(raw, 4, 4),
    gen = n(5, 7), run = n(8, 10), turn = n(11, 14), attempts = n(15, 19), spent = n(20, 21),
    dups = n(22, 25), batch = n(26, 31), seen = n(32, 41), accepted = n(42, 54), changed = n(55, 67),
    holder = n(68, 73), deadline = string.sub(raw, 74, 74),
  }
end

local function least(n, most) if n > most then return most end return n end

-- header must never get wider than its columns. Counters stop there. Turns wrap;
-- processes are numbered below a million; generations, runs and batches are
-- refused beforehand where their column ends.
local function header(h)
  local raw = string.format('1%s%s%s%03d%03d%04d%05d%02d%04d%06d%010d%013.0f%013.0f%06d%s',
    h.state, h.lane, h.flag, h.gen, h.run, h.turn, least(h.attempts, 99999), least(h.spent, 99),
    least(h.dups, 9999), h.batch, least(h.seen, 9999999999), h.accepted, h.changed, h.holder, h.deadline)
  if #raw ~= HEADER then error('a number that is too large for its column in the header ' .. raw, 0) end
  return raw
end

-- load reads the header of an id's latest generation, or nil.
local function load(id)
  local raw = redis.call('GETRANGE', record_key(id), 0, HEADER - 1)
  if #raw < HEADER then return nil end
  return parse(raw)
end

local function save(key, h)
  local columns = header(h)
  redis.call('SETRANGE', key, 0, columns)
  return columns
end

-- count turns a batch's counter of a state, and the account's of what waits in any batch.
local function count(batch, state, n)
  redis.call('HINCRBY', batch_key(batch), NAME[state], n)
  if state == 'w' then redis.call('HINCRBY', account_key(), 'waiting', n) end
end

-- backlog gives how many requests of a lane wait or are queued. In the interactive
-- one none waits: it is queued from its acceptance on.
local function backlog(lane)
  local n = redis.call('ZCARD', queued_key(lane))
  if lane == 'b' then n = n + tonumber(redis.call('HGET', account_key(), 'waiting') or '0') end
  return n
end

-- move changes the state, and the counters with it; where many move, tally
-- gathers what the caller then adds to the counters in the same script.
local function move(h, state, tally)
  if tally then
    tally[h.state] = (tally[h.state] or 0) - 1
    tally[state] = (tally[state] or 0) + 1
  elseif h.state ~= state then
    count(h.batch, h.state, -1)
    count(h.batch, state, 1)
  end
  h.state, h.changed = state, now
end

-- What failed or is held is kept in a set of its state, by when it came there,
-- for a person to look through. shelve is called when a request has come to its
-- state, unshelve before it leaves it; they do nothing for the other states.
local SHELVED = { F = true, h = true }
local function shelf_key(state) return tag .. ':' .. NAME[state] end
local function shelve(h, id)
  if SHELVED[h.state] then redis.call('ZADD', shelf_key(h.state), ms(h.changed), id) end
end
local function unshelve(h, id)
  if SHELVED[h.state] then redis.call('ZREM', shelf_key(h.state), id) end
end

-- lines gives content, frozen, outcome and the rest of a whole record.
local function lines(raw)
  local out, from = {}, HEADER + 1
  while #out < 3 do
    local cut = string.find(raw, '\n', from, true)
    if not cut then break end
    out[#out + 1] = string.sub(raw, from, cut - 1)
    from = cut + 1
  end
  out[#out + 1] = string.sub(raw, from)
  return out[1] or '', out[2] or '', out[3] or '', out[4] or ''
end

-- row_of gives the row of its batch, as text, that a raw record was accepted as.
local function row_of(raw) return string.match(lines(raw), '"row":(%d+)}$') end

-- write stores and returns a whole record; empty lines at the end are left out.
local function write(key, h, content, frozen, outcome, past)
  local raw = header(h) .. content
  if past ~= '' then raw = raw .. '\n' .. frozen .. '\n' .. outcome .. '\n' .. past
  elseif outcome ~= '' then raw = raw .. '\n' .. frozen .. '\n' .. outcome
  elseif frozen ~= '' then raw = raw .. '\n' .. frozen end
  redis.call('SET', key, raw)
  return raw
end

-- The numbers of the batches that there are, and those of deleted ones, by when that
-- was.
local function numbered_key() return tag .. ':numbered' end
local function free_key() return tag .. ':free-numbers' end

-- new_number gives the number of a new batch: the next one, or where the header has no
-- room for more that of the batch that was deleted first, more than a day ago. Until
-- then somebody may know the number from before.
local function new_number()
  if tonumber(redis.call('HGET', account_key(), 'batches') or '0') < 999999 then
    return redis.call('HINCRBY', account_key(), 'batches', 1)
  end
  local free = redis.call('ZRANGEBYSCORE', free_key(), '-inf', ms(now - 86400000), 'LIMIT', 0, 1)[1]
  if not free then
    error('the account has 999999 batches, and can take no more; forget some: they are deleted within a day, and their numbers are free a day later', 0)
  end
  redis.call('ZREM', free_key(), free)
  return tonumber(free)
end

-- batch_number gives a batch's number, and makes the batch where its name is new.
local function batch_number(name)
  local names = tag .. ':batches'
  local number = redis.call('HGET', names, name)
  if not number then
    number = new_number()
    redis.call('HSET', names, name, number)
    redis.call('ZADD', numbered_key(), number, number)
    redis.call('HSET', batch_key(number), 'name', name, 'created_at', ms(now), 'cursor', 0)
  end
  return tonumber(number)
end

-- to_feed says that a batch has something to feed. One that had nothing takes its turn
-- after all that have waited for theirs: it would be served more often than they are
-- if it came first whenever it is extended.
local served
local function to_feed(batch)
  served = served or redis.call('HGET', account_key(), 'served') or '0'
  redis.call('ZADD', running_key(), 'NX', served, batch)
end

-- again puts an id before the rows of its batch, to be fed next.
local function again(batch, id)
  redis.call('RPUSH', again_key(batch), id)
  to_feed(batch)
end

-- enqueue makes a request queued for one more turn in its lane. The caller
-- enqueues the task of that turn.
local function enqueue(h, id)
  move(h, 'q')
  h.turn = (h.turn + 1) % 10000
  redis.call('ZADD', queued_key(h.lane), ms(now), id)
end

-- expired says whether the request's own not_after has passed, or its batch's,
-- which is given, where it has none.
local function expired(h, id, of_batch)
  local due = false
  if h.deadline == 'd' then due = redis.call('ZSCORE', deadlines_key(), id)
  elseif h.deadline == '-' and h.batch > 0 then due = of_batch end
  return due and tonumber(due) <= now
end
