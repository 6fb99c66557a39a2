-- What the transitions of one commit share: what they have read, and counters that are
-- stored at the end.
--
-- uses: keys, clock, counters, batch_stop

local infos, kind, counts_of = {}, nil, {}

-- batch_info returns what a batch says of its requests: whether it is stopped, its
-- options, its not_after, its name and its trace; false for what it does not say.
local function batch_info(batch)
  local known = infos[batch]
  if not known then
    local own = redis.call('HMGET', batch_key(batch), 'options', 'not_after', 'name', 'trace')
    known = { stop = redis.call('HGET', account_key(), stop_field(batch)), options = own[1], not_after = own[2], name = own[3] or '', trace = own[4] }
    infos[batch] = known
  end
  return known
end

-- link_kind returns whether the account's links are 'real' or 'simulated', false before
-- its first link. set_link_kind is called for that.
local function link_kind()
  if kind == nil then kind = redis.call('HGET', account_key(), 'upstream') end
  return kind
end
local function set_link_kind(first)
  redis.call('HSET', account_key(), 'upstream', first)
  kind = first
end

-- batch_counts returns the changes of a batch's counters, for move and conclude.
local function batch_counts(batch)
  counts_of[batch] = counts_of[batch] or {}
  return counts_of[batch]
end

local function store_counts()
  for batch, states in pairs(counts_of) do
    for state, n in pairs(states) do
      if n ~= 0 then count(batch, state, n) end
    end
  end
end

-- count_refused counts the calls of a batch in a row that FaceKi refused as invalid, and
-- pauses the batch at the MAX_REFUSED-th, so that one mistake does not fail all of its
-- rows. A success in between is seen in the number of its created requests, and costs
-- no command. It reports whether this call paused the batch.
local MAX_REFUSED = 20
local function count_refused(batch, message)
  local key = batch_key(batch)
  local at = redis.call('HMGET', key, 'refused', 'refused_at', 'created', 'status')
  local created = ms(tonumber(at[3] or '0') + (batch_counts(batch).C or 0))
  local n = at[2] == created and tonumber(at[1] or '0') + 1 or 1
  redis.call('HSET', key, 'refused', n, 'refused_at', created)
  if n < MAX_REFUSED or at[4] then return false end
  redis.call('HSET', key, 'status', 'paused', 'reason', 'rows_refused', 'message', message)
  redis.call('HSET', account_key(), stop_field(batch), 'paused')
  batch_info(batch).stop = 'paused'
  return true
end
