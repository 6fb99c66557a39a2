-- fault records that the current attempt brought no link, and decides by the
-- table's columns what becomes of the request.
--
-- process, nonce, credential, took: who called, by which grant ('' where it died with
-- its process), with which credentials, and for how many ms
-- sign, retry_after: what the fault tells the gate, and its ms of Retry-After
-- follows: 'retry', 'fail', 'hold', or 'back': it was not sent after all, which counts
-- only from whoever has the grant's nonce
-- blames '1': may be held against the request   unknown '1': a link may exist
-- most: spent faults   delay: ms to wait before another attempt
-- event: id of the end's, held_event: of a hold's; at, id_json, event_head, tail: of either
-- why: reason and message as JSON: ,"reason":…,"message":…
-- too_late: the same for an end by not_after
-- kept: the link that is kept with the outcome as JSON, ,"kept":…, or ''. Where the sign is
-- '', it was kept before and there was no call: the request is queued
--
-- Returns the state that the request is in now, also where this was recorded
-- before and the reply was lost; 'stale' where the attempt is not the current one. A
-- state that ends with a blank says that this fault paused the request's batch.
--
-- uses: keys, clock, record, counters, deadline, uncertain, outcome, calls, signals, commit_state

-- unmarked counts the call of a mark that Redis has lost, with its last writes: nobody
-- else can know of it.
local function unmarked(key, h, attempt, unknown)
  local calling = h.state == 'c' and h.attempts == attempt -- another call of that number
  if ENDED[h.state] or not calling and attempt <= h.attempts then return end
  if unknown == '1' then count_uncertain(h) end
  if h.state ~= 'c' then h.attempts = attempt end
  save(key, h)
end

local function fault(id, gen, run, attempt, process, nonce, credential, took, sign, retry_after,
    follows, blames, unknown, most, delay, event, held_event, at, id_json, event_head, tail, why, too_late, kept)
  local key = record_key(id)
  local raw = redis.call('GET', key)
  if not raw then return 'stale' end
  local h = parse(raw)
  if h.gen ~= tonumber(gen) or h.run ~= tonumber(run) then return 'stale' end
  local unsent, attempt = follows == 'back', tonumber(attempt)
  local current = h.attempts == attempt
  if h.state == 'c' then current = current and h.holder == tonumber(process) end
  if unsent and h.state == 'c' then current = current and is_granted(process, id, nonce) end
  if not current then
    if unsent and h.state == 'q' and h.attempts == attempt - 1 then return NAME.q end -- recorded before
    if not unsent then unmarked(key, h, attempt, unknown) end
    return 'stale'
  end
  if h.state ~= 'c' and not (h.state == 'q' and sign == '') then return NAME[h.state] end

  local marked = h.changed
  if unknown == '1' then count_uncertain(h) end
  local successes = tonumber(redis.call('HGET', account_key(), 'successes') or '0')
  if unsent then
    -- It was no attempt, and leaves no trace.
    h.attempts = h.attempts - 1
  elseif blames == '1' then
    -- Another request's success since this one's previous fault shows whose
    -- fault it is; from the first spent fault on, all are.
    if h.charged > 0 or (h.seen > 0 and successes + 1 > h.seen) then
      h.charged = h.charged + 1
      if sign == 'outage' then sign = 'none' end
    end
    h.seen = successes + 1
  end

  local message = cjson.decode('{' .. string.sub(why, 2) .. '}').message
  if sign ~= '' then report(sign, id, process, nonce, credential, marked, retry_after, took, message) end

  local state, fields = 'q', why
  if h.flag == 'x' then state, fields = 'X', ',"reason":"cancelled"'
  elseif follows == 'fail' then state = 'F'
  elseif follows == 'hold' then state = 'h'
  elseif expired(h, id, batch_info(h.batch).not_after) then state, fields = 'F', too_late
  elseif not unsent and h.charged >= tonumber(most) then state = 'F' end

  if state == 'q' and unsent then
    move(h, 'q', batch_counts(h.batch))
    redis.call('ZADD', queued_key(h.lane), ms(now), id)
    save(key, h)
    return NAME.q
  elseif state == 'q' then
    move(h, 'q', batch_counts(h.batch))
    redis.call('ZADD', queued_key(h.lane), ms(now + tonumber(delay)), id)
    local content, resolved, _, earlier = sections(raw)
    write(key, h, content, resolved, '{"run":' .. h.run .. fields .. '}', earlier)
    return NAME.q
  end
  conclude(id, key, raw, h, state, {
    event = state == 'h' and held_event or event, at = at, id_json = id_json,
    head = event_head, tail = tail, middle = fields,
  }, fields .. kept, batch_counts(h.batch))
  if follows == 'fail' and h.batch > 0 and count_refused(h.batch, message) then return NAME[state] .. ' ' end
  return NAME[state]
end
