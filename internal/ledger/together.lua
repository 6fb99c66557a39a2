-- What the transitions of one script share: what it has read, and the counters that
-- it turns in its end.

local facts_of, upstream_is, tallies = {}, nil, {}

-- facts gives what a batch says of its requests: whether it is stopped, its options
-- and its not_after; false where it says nothing.
local function facts(batch)
  local known = facts_of[batch]
  if not known then
    local own = redis.call('HMGET', batch_key(batch), 'options', 'not_after')
    known = { stop = redis.call('HGET', account_key(), stop_field(batch)), options = own[1], not_after = own[2] }
    facts_of[batch] = known
  end
  return known
end

-- links_are gives of which kind the account's links are, false where it has none
-- yet, and may be told so first.
local function links_are(first)
  if first then
    redis.call('HSET', account_key(), 'upstream', first)
    upstream_is = first
  elseif upstream_is == nil then
    upstream_is = redis.call('HGET', account_key(), 'upstream')
  end
  return upstream_is
end

local function tally_of(batch)
  tallies[batch] = tallies[batch] or {}
  return tallies[batch]
end

local function keep_tallies()
  for batch, states in pairs(tallies) do
    for state, n in pairs(states) do
      if n ~= 0 then count(batch, state, n) end
    end
  end
end
