-- Credentials that FaceKi refuses.
--
-- uses: keys, clock, gate_state

local function refusal_key(credential) return tag .. ':refused:' .. credential end

local function remove_refusal(credential)
  local rest = {}
  for other in string.gmatch(gate.refused, '%S+') do
    if other ~= credential then rest[#rest + 1] = other end
  end
  set('refused', table.concat(rest, ' '))
end

-- refusal returns the state of a refused credential; nil if it is not refused.
local function refusal(credential)
  if gate.refused == '' then return nil end
  if not string.find(' ' .. gate.refused .. ' ', ' ' .. credential .. ' ', 1, true) then return nil end
  local v = redis.call('HMGET', refusal_key(credential), 'since', 'pause', 'next', 'prober', 'id', 'by')
  if v[1] then
    local since, pause, next, by = tonumber(v[1]), tonumber(v[2]), tonumber(v[3]), tonumber(v[6])
    if next > now + pause then next = now end -- further ahead than possible: the clock went back
    if by > now + ANSWER_TIMEOUT then by = 0 end
    return { since = math.min(since, now), pause = pause, next = next, prober = v[4], id = v[5], by = by }
  end
  remove_refusal(credential)
end

-- store_refusal stores the state of a refused credential, with its message if it has one.
local function store_refusal(credential, r)
  redis.call('HSET', refusal_key(credential), 'since', ms(r.since), 'pause', ms(r.pause), 'next', ms(r.next),
    'prober', r.prober, 'id', r.id, 'by', ms(r.by))
  if r.message then redis.call('HSET', refusal_key(credential), 'message', r.message, 'message_at', ms(now)) end
  redis.call('PEXPIRE', refusal_key(credential), REFUSAL_TTL)
end
