-- What the transitions of one script share: what it has read, and the counters that
-- it turns in its end.
--
-- uses: keys, clock, counters, batch_stop

local infos, kind, counts_of = {}, nil, {}

-- facts gives what a batch says of its requests: whether it is stopped, its options,
-- its not_after and its name; false where it says nothing.
local function batch_info(batch)
  local known = infos[batch]
  if not known then
    local own = redis.call('HMGET', batch_key(batch), 'options', 'not_after', 'name')
    known = { stop = redis.call('HGET', account_key(), stop_field(batch)), options = own[1], not_after = own[2], name = own[3] or '' }
    infos[batch] = known
  end
  return known
end

-- links_are gives of which kind the account's links are, false where it has none
-- yet, and may be told so first.
local function link_kind(first)
  if first then
    redis.call('HSET', account_key(), 'upstream', first)
    kind = first
  elseif kind == nil then
    kind = redis.call('HGET', account_key(), 'upstream')
  end
  return kind
end

local function batch_counts(batch)
  counts_of[batch] = counts_of[batch] or {}
  return counts_of[batch]
end

-- refused_as_wrong counts the calls of a batch that FaceKi refused as wrong in a row,
-- and pauses the batch at the MOST_REFUSED-th: one misunderstanding is not to fail all
-- of its rows. A success in between shows in how many of it are created, and so costs
-- nothing itself. It says whether this call paused the batch.
local MOST_REFUSED = 20
local function count_refused(batch, message)
  local key = batch_key(batch)
  local at = redis.call('HMGET', key, 'refused', 'refused_at', 'created', 'status')
  local created = ms(tonumber(at[3] or '0') + (batch_counts(batch).C or 0))
  local n = at[2] == created and tonumber(at[1] or '0') + 1 or 1
  redis.call('HSET', key, 'refused', n, 'refused_at', created)
  if n < MOST_REFUSED or at[4] then return false end
  redis.call('HSET', key, 'status', 'paused', 'reason', 'rows_refused', 'message', message)
  redis.call('HSET', account_key(), stop_field(batch), 'paused')
  batch_info(batch).stop = 'paused'
  return true
end

local function store_counts()
  for batch, states in pairs(counts_of) do
    for state, n in pairs(states) do
      if n ~= 0 then count(batch, state, n) end
    end
  end
end
