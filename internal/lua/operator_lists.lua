-- Sets of the requests that failed and of those that are held, by the time at which they
-- came to that state, for operators. A failed request that an operator dropped is not
-- in its set.
--
-- uses: keys, clock, record
local LISTED = { F = true, h = true }

local function operator_list_key(state) return tag .. ':' .. NAME[state] end

-- list_for_operator is called after a request has come to its state, and
-- unlist_for_operator before it leaves it. They do nothing for other states.
local function list_for_operator(h, id)
  if LISTED[h.state] then redis.call('ZADD', operator_list_key(h.state), ms(h.changed), id) end
end
local function unlist_for_operator(h, id)
  if LISTED[h.state] then redis.call('ZREM', operator_list_key(h.state), id) end
end
