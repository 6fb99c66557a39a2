-- The end of a run, or its hold, and the event that publishes it in the same step.
--
-- Callers pass those parts of an event that no script reads as JSON fragments that begin
-- with a comma: `head` (",batch"), `tail` (",metadata").
--
-- uses: keys, clock, record, counters, operator_lists, ended, attempts

-- publish returns the entry of the stream.
local function publish(kind, id, event, at, h, id_json, head, middle, tail)
  return redis.call('XADD', tag .. ':results', '*',
    'id', event, 'type', kind, 'timestamp', at, 'application_id', id,
    'data', '{"application_id":' .. id_json .. ',"generation":' .. ms(h.gen) .. ',"run":' .. ms(h.run) .. head
      .. middle .. ',"attempts":' .. ms(h.attempts) .. ',"possible_duplicates":' .. ms(h.dups) .. tail .. '}')
end

local EVENT_TYPE = { C = 'link.created', F = 'link.failed', X = 'link.cancelled', h = 'link.held' }

-- with_earlier appends an outcome to the earlier ones.
local function with_earlier(earlier, outcome)
  if earlier == '' then return outcome end
  return earlier .. '\n' .. outcome
end

-- conclude moves a request to an end, or to held, and publishes the event. The reason of
-- a hold is kept among the earlier outcomes.
--
-- raw: the record   h: its header   state: the new one
-- e: of the event: event (its id), at (RFC 3339), id_json, head, middle, tail
-- fields: of the outcome, as a JSON fragment that begins with a comma
-- counts: as for move
-- attempts: those of the run without a link; nil: those that the record has
local function conclude(id, key, raw, h, state, e, fields, counts, attempts)
  if h.state == 'q' then redis.call('ZREM', queued_key(h.lane), id) end
  unlist_for_operator(h, id)
  if state ~= 'h' and h.deadline == 'd' then
    redis.call('ZREM', deadlines_key(), id)
    h.deadline = '-'
  end
  local content, resolved, before, earlier = sections(raw)
  if h.state == 'h' and before ~= '' then
    earlier, before = with_earlier(earlier, before), ''
  end
  move(h, state, counts)
  -- The account counts ends without a link here. Ends with a link are its successes,
  -- which show that FaceKi works, or 'ended:created' if no call brought the link.
  if state == 'F' or state == 'X' then redis.call('HINCRBY', account_key(), 'ended:' .. NAME[state], 1) end
  list_for_operator(h, id)
  h.flag = '-'
  -- The entry is erased with the request.
  local entry = publish(EVENT_TYPE[state], id, e.event, e.at, h, e.id_json, e.head, e.middle, e.tail)
  local outcome = '{"run":' .. ms(h.run) .. ',"status":"' .. NAME[state] .. '"' .. fields
    .. (attempts or attempts_of(before)) .. ',"ended_at":"' .. e.at .. '","entry":"' .. entry .. '"}'
  write_record(key, h, content, resolved, outcome, earlier)
  if ENDED[state] then list_ended(id, now) end
end
