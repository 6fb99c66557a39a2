-- Counters of requests by state, of each batch and of the account.
--
-- uses: keys, clock, record

-- count adds n to a batch's counter of a state, and to the account's of all that wait.
local function count(batch, state, n)
  redis.call('HINCRBY', batch_key(batch), NAME[state], n)
  if state == 'w' then redis.call('HINCRBY', account_key(), 'waiting', n) end
end

-- move changes the state and its counters. A script that moves many requests passes
-- counts, a table by state, and adds it to the counters itself at the end.
local function move(h, state, counts)
  if counts then
    counts[h.state] = (counts[h.state] or 0) - 1
    counts[state] = (counts[state] or 0) + 1
  elseif h.state ~= state then
    count(h.batch, h.state, -1)
    count(h.batch, state, 1)
  end
  h.state, h.changed = state, now
end
