-- fault records that the current attempt brought no link, and decides by the
-- table's columns what becomes of the request.
--
-- ARGV[1] id, [2] generation, [3] run, [4] attempt
-- ARGV[5] what follows: 'retry', 'fail', 'hold', or 'back': it was not sent after all
-- ARGV[6] '1': may be held against the request   ARGV[7] '1': a link may exist
-- ARGV[8] most spent faults   ARGV[9] ms to wait before another attempt
-- ARGV[10] event id of the end, [11] of a hold, [12] time, [13] id as JSON, [14] head, [15] tail
-- ARGV[16] reason and message as JSON: ,"reason":…,"message":…
-- ARGV[17] the same for an end by not_after
-- ARGV[18] process, [19] its credentials, [20] what the fault tells the gate
-- ARGV[21] ms of Retry-After, [22] ms that the call took
--
-- Returns the state that the request is in now, also where this was recorded
-- before and the reply was lost; 'stale' where the attempt is not the current one.
local id, follows = ARGV[1], ARGV[5]
local key = record_key(id)
local raw = redis.call('GET', key)
if not raw then return 'stale' end
local h = parse(raw)
if h.gen ~= tonumber(ARGV[2]) or h.run ~= tonumber(ARGV[3]) or h.attempts ~= tonumber(ARGV[4]) then
  return 'stale'
end
if h.state ~= 'c' then return NAME[h.state] end

local sign, marked = ARGV[20], h.changed
if ARGV[7] == '1' then doubt(h) end
local successes = tonumber(redis.call('HGET', account_key(), 'successes') or '0')
if follows == 'back' then
  -- It was no attempt, and leaves no trace.
  h.attempts = h.attempts - 1
elseif ARGV[6] == '1' then
  -- Another request's success since this one's previous fault shows whose
  -- fault it is; from the first spent fault on, all are.
  if h.spent > 0 or (h.seen > 0 and successes + 1 > h.seen) then
    h.spent = h.spent + 1
    if sign == 'outage' then sign = 'none' end
  end
  h.seen = successes + 1
end

report(sign, id, ARGV[18], ARGV[19], marked, ARGV[21], ARGV[22])

local state, fields = 'q', ARGV[16]
if h.flag == 'x' then state, fields = 'X', ',"reason":"cancelled"'
elseif follows == 'fail' then state = 'F'
elseif follows == 'hold' then state = 'h'
elseif expired(h, id) then state, fields = 'F', ARGV[17]
elseif h.spent >= tonumber(ARGV[8]) then state = 'F' end

if state == 'q' and follows == 'back' then
  move(h, 'q')
  redis.call('ZADD', queued_key(h.lane), ms(now), id)
  save(key, h)
  return NAME.q
elseif state == 'q' then
  move(h, 'q')
  redis.call('ZADD', queued_key(h.lane), ms(now + tonumber(ARGV[9])), id)
  local content, frozen, _, past = lines(raw)
  write(key, h, content, frozen, '{"run":' .. h.run .. fields .. '}', past)
  return NAME.q
end
conclude(id, key, raw, h, state, {
  event = state == 'h' and ARGV[11] or ARGV[10], at = ARGV[12], id_json = ARGV[13],
  head = ARGV[14], tail = ARGV[15], middle = fields,
}, fields)
return NAME[state]
