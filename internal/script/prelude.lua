-- What the ledger's scripts add to the record's prelude: the end of a run and
-- its event, which are one step.
--
-- An event's parts that no script knows come from the caller as JSON fragments
-- that start with a comma: `head` (",batch"), `tail` (",metadata").

-- stop_field is the account's field that says that a batch is not to be called:
-- 'paused', or 'cancelled' until all of its requests have ended.
local function stop_field(n) return 'batch:' .. n end
local function cancelling_key() return tag .. ':cancelling' end
local function off_key(n) return tag .. ':off:' .. n end

-- A delivery is a hash by its event's id; a request has a list of its events'.
local function delivery_key(event) return tag .. ':delivery:' .. event end
local function deliveries_key(id) return tag .. ':deliveries:' .. id end
local function undelivered_key() return tag .. ':undelivered' end
local function pending_key() return tag .. ':pending' end

-- A batch's order is a hash of numbered chunks, which come in any order. Some never
-- come: those of an import that was killed, or of a row that was refused. The batch's
-- `last` is the highest number that was written; an older version keeps none, and has
-- no more than LEFT_OUT chunks missing.
local LEFT_OUT = 16
local function last_chunk(batch)
  local n = redis.call('HLEN', order_key(batch))
  if n == 0 then return -1 end
  return math.max(n - 1 + LEFT_OUT, tonumber(redis.call('HGET', batch_key(batch), 'last') or '-1'))
end

-- next_chunk gives the number and the text of the first chunk that is there, from a
-- number on; nil and the number to go on from where `most` are missing; nil and nil
-- after the last one.
local function next_chunk(batch, from, most)
  local text = redis.call('HGET', order_key(batch), from)
  if text then return from, text end
  local last = last_chunk(batch)
  for n = from + 1, math.min(from + most, last) do
    if redis.call('HEXISTS', order_key(batch), n) == 1 then return n, redis.call('HGET', order_key(batch), n) end
  end
  if from + most < last then return nil, from + most + 1 end
end

-- doubted counts attempts that may have made a link that nobody knows of, for the
-- batch, and for the account, whose count never falls.
local function doubted(batch, n)
  redis.call('HINCRBY', batch_key(batch), 'possible_duplicates', n)
  redis.call('HINCRBY', account_key(), 'possible_duplicates', n)
end

-- doubt counts that an attempt may have made one.
local function doubt(h)
  h.dups = h.dups + 1
  doubted(h.batch, 1)
end

local function publish(kind, id, event, at, h, id_json, head, middle, tail)
  redis.call('XADD', tag .. ':results', '*',
    'id', event, 'type', kind, 'timestamp', at, 'application_id', id,
    'data', '{"application_id":' .. id_json .. ',"generation":' .. h.gen .. ',"run":' .. h.run .. head
      .. middle .. ',"attempts":' .. h.attempts .. ',"possible_duplicates":' .. h.dups .. tail .. '}')
end

local TYPE = { C = 'link.created', F = 'link.failed', X = 'link.cancelled', h = 'link.held' }

-- older adds an outcome to those before it.
local function older(outcome, past)
  if past == '' then return outcome end
  return past .. '\n' .. outcome
end

-- conclude moves a request to an end, or to held, and publishes the event.
-- e: event, at, id_json, head, middle, tail; fields is the outcome line
-- without its braces, starting with the run. Why a request was held is kept
-- among what is past.
local function conclude(id, key, raw, h, state, e, fields, tally)
  if h.state == 'q' then redis.call('ZREM', queued_key(h.lane), id) end
  unshelve(h, id)
  if state ~= 'h' and h.deadline == 'd' then
    redis.call('ZREM', deadlines_key(), id)
    h.deadline = '-'
  end
  local content, frozen, before, past = lines(raw)
  if h.state == 'h' and before ~= '' then past = older(before, past) end
  move(h, state, tally)
  -- The account's ends without a link. Those with one are its successes, which say that
  -- FaceKi works, or where no call brought it 'ended:created'.
  if state == 'F' or state == 'X' then redis.call('HINCRBY', account_key(), 'ended:' .. NAME[state], 1) end
  shelve(h, id)
  h.flag = '-'
  local outcome = '{"run":' .. h.run .. ',"status":"' .. NAME[state] .. '"' .. fields
    .. ',"ended_at":"' .. e.at .. '"}'
  write(key, h, content, frozen, outcome, past)
  publish(TYPE[state], id, e.event, e.at, h, e.id_json, e.head, e.middle, e.tail)
end

-- other_kind gives the account's kind if a process of this kind must not change it.
-- The first worker that joins determines it. In an account of earlier versions only
-- the first link did: one without a kind that a worker has joined may be real, and
-- is 'unknown' to a simulated process.
local function other_kind(kind)
  local has = redis.call('HGET', account_key(), 'upstream')
  if has then return has ~= kind and has end
  local joined = redis.call('HEXISTS', GATE, 'set:n') == 1 or redis.call('EXISTS', tag .. ':workers') == 1
  return joined and kind == 'simulated' and 'unknown'
end

-- pauses says that a request is queued for a moment to come because its last fault wants
-- a pause: an hour at most, and a minute as tolerance. Any other such moment was written
-- while the clock was ahead.
local LONGEST_PAUSE = 3660000
local function pauses(h, due)
  return due > now and h.changed <= now and due <= h.changed + LONGEST_PAUSE
end
