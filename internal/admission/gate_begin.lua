-- The first step of each function that reads the gate.
--
-- uses: keys, clock, gate_state, calls

-- shift_times corrects the stored times after the clock went back by about `by` ms, so that
-- pauses, ages and FaceKi's silence keep their lengths. The bucket starts empty, see
-- settle_bucket, and each waiting process gets a new place when it asks again.
local FURTHEST = { next = 600000, by = ANSWER_TIMEOUT } -- how far ahead these may be
local function shift_times(by)
  for _, name in ipairs({ 'since', 'closed', 'opened', 'answered', 'looked', 'asked', 'next', 'by' }) do
    if gate[name] > 0 then set(name, math.min(gate[name] - by, now + (FURTHEST[name] or 0))) end
  end
  for _, lane in ipairs({ 'interactive', 'bulk' }) do
    redis.call('DEL', tag .. ':line:' .. lane)
    set('line:' .. lane, 0)
  end
  local ahead = redis.call('ZRANGEBYSCORE', CALLS, '(' .. ms(now), '+inf', 'WITHSCORES')
  for i = 1, #ahead, 2 do redis.call('ZADD', CALLS, ms(math.min(ahead[i + 1] - by, now)), ahead[i]) end
  for credential in string.gmatch(gate.refused, '%S+') do
    local key = tag .. ':refused:' .. credential
    for i, at in ipairs(redis.call('HMGET', key, 'since', 'next', 'by')) do
      if at and tonumber(at) > 0 then redis.call('HSET', key, ({ 'since', 'next', 'by' })[i], ms(at - by)) end
    end
  end
end

-- The fields that read_gate itself needs.
local COMMON_FIELDS = { 'state', 'reason', 'looked', 'answered' }

-- read_gate reads the named fields of the gate, which include COMMON_FIELDS, corrects the
-- times if the clock went back, and ends a ramp whose time is over. In one script, a second
-- call with the same fields has nothing to do.
local fields_read = {}
local function read_gate(fields)
  if fields_read[fields] then return end
  fields_read[fields] = true
  require_fields(fields)
  local ahead = math.max(gate.looked, gate.answered) - now
  if ahead > 0 then shift_times(ahead) end
  if gate.state == 'ramping' and now >= gate.opened + RAMP_TIME then
    change_state('open', '', gate.opened + RAMP_TIME)
  end
end
