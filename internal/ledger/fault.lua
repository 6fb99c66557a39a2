-- The transition of a fault.
--
-- uses: keys, clock, record, counters, deadline, uncertain, outcome, attempts, calls, signals, commit_state

-- record_lost_start records an attempt whose start Redis has lost with its last writes:
-- no other process can know of it.
local function record_lost_start(key, h, attempt, uncertain)
  local calling = h.state == 'c' and h.attempts == attempt -- another call of that number
  if ENDED[h.state] or not calling and attempt <= h.attempts then return end
  if uncertain == '1' then count_uncertain(h) end
  if h.state ~= 'c' then h.attempts = attempt end
  save_header(key, h)
end

-- fault records that the current attempt brought no link. The caller has classified the
-- fault; here it is only decided whether the attempt is charged, which needs the
-- account's successes, and whether the request ends by it.
--
-- id, generation, run
-- attempt, process, credential: of the call
-- nonce: of its grant, '' if it died with its process
-- latency: of the call, ms
-- signal: the gate signal; '' if no call was made, since a link was kept before: the
--   request is queued
-- charged_signal: the same, if the attempt is charged
-- retry_after: that FaceKi asked for, ms; 0: none
-- message: the fault's, for the gate's status and a paused batch
-- action: 'retry', 'fail', 'hold', or 'back': the call was not sent, which counts only
--   from the process that has the grant's nonce
-- chargeable: '1' if the attempt may be charged   uncertain: '1' if a link may exist
-- max_charged: the charged attempts after which the request fails
-- delay: until the next attempt, ms
-- event_id, held_event_id: of the event of an end, or of a hold
-- at (RFC 3339), id_json, head, tail: of either event, see outcome.lua
-- reason: the reason and message as a JSON fragment that begins with a comma
-- expired_reason: the same for an end by not_after
-- kept: the link that is kept with the outcome, as the JSON fragment ,"kept":…, or ''
--
-- Returns the state that the request has now, also if this fault was recorded before and
-- the reply was lost; 'stale' if the attempt is not the current one. The state is
-- followed by '+paused' if this fault paused the request's batch.
local function fault(id, generation, run, attempt, process, nonce, credential, latency, signal, charged_signal,
    retry_after, message, action, chargeable, uncertain, max_charged, delay, event_id, held_event_id, at, id_json,
    head, tail, reason, expired_reason, kept)
  local key = record_key(id)
  local raw = redis.call('GET', key)
  if not raw then return 'stale' end
  local h = parse_header(raw)
  if h.gen ~= tonumber(generation) or h.run ~= tonumber(run) then return 'stale' end
  local unsent, attempt = action == 'back', tonumber(attempt)
  local current = h.attempts == attempt
  if h.state == 'c' then current = current and h.holder == tonumber(process) end
  if unsent and h.state == 'c' then current = current and is_granted(process, id, nonce) end
  if not current then
    if unsent and h.state == 'q' and h.attempts == attempt - 1 then return NAME.q end -- recorded before
    if not unsent then record_lost_start(key, h, attempt, uncertain) end
    return 'stale'
  end
  if h.state ~= 'c' and not (h.state == 'q' and signal == '') then return NAME[h.state] end

  local began = h.changed
  if uncertain == '1' then count_uncertain(h) end
  local successes = tonumber(redis.call('HGET', account_key(), 'successes') or '0')
  if unsent then
    -- It was no attempt, and leaves no trace.
    h.attempts = h.attempts - 1
  elseif chargeable == '1' then
    -- Another request's success since this one's previous fault shows that the fault
    -- is this request's. After the first charged attempt, all are charged.
    if h.charged > 0 or (h.seen > 0 and successes + 1 > h.seen) then
      h.charged = h.charged + 1
      signal = charged_signal
    end
    h.seen = successes + 1
  end

  if signal ~= '' then report_signal(signal, id, process, nonce, credential, began, retry_after, latency, message) end

  local state, fields = 'q', reason
  if h.flag == 'x' then state, fields = 'X', ',"reason":"cancelled"'
  elseif action == 'fail' then state = 'F'
  elseif action == 'hold' then state = 'h'
  elseif expired(h, id, batch_info(h.batch).not_after) then state, fields = 'F', expired_reason
  elseif not unsent and h.charged >= tonumber(max_charged) then state = 'F' end

  if state == 'q' and unsent then
    move(h, 'q', batch_counts(h.batch))
    redis.call('ZADD', queued_key(h.lane), ms(now), id)
    save_header(key, h)
    return NAME.q
  end
  local content, resolved, outcome, earlier = sections(raw)
  local attempts = attempts_of(outcome)
  if not unsent and signal ~= '' then
    attempts = with_attempt(attempts, h, nonce == '' and '' or latency, reason, uncertain)
  end
  if state == 'q' then
    move(h, 'q', batch_counts(h.batch))
    redis.call('ZADD', queued_key(h.lane), ms(now + tonumber(delay)), id)
    write_record(key, h, content, resolved, '{"run":' .. h.run .. fields .. attempts .. '}', earlier)
    return NAME.q
  end
  conclude(id, key, raw, h, state, {
    event = state == 'h' and held_event_id or event_id, at = at, id_json = id_json,
    head = head, tail = tail, middle = fields,
  }, fields .. kept, batch_counts(h.batch), attempts)
  if action == 'fail' and h.batch > 0 and count_refused(h.batch, message) then return NAME[state] .. '+paused' end
  return NAME[state]
end
