-- The transition of a success.
--
-- uses: keys, clock, record, uncertain, outcome, calls, signals, commit_state

-- created records a link, from any attempt if the run has no end yet.
--
-- id, generation, run
-- attempt, process, nonce, credential: of the call
-- began: when the attempt began, ms
-- latency: of FaceKi's answer, ms
-- kind: of the link, 'real' or 'simulated'
-- event_id, at (RFC 3339), id_json, head, tail: of the event, see outcome.lua
-- link: its fields as the JSON fragment ,"link_id":…,"url":…,"expires_at":…
-- kept: '1' if an earlier call brought the link, and it was kept: no call was made now
--
-- Returns 'created'; 'late' if no run was open and the link was kept beside the outcome;
-- 'gone' if there is no record; 'run:N' if run N is open now: the caller makes that run's
-- event and tries again; 'upstream' if the account's links are of the other kind, and
-- nothing was written.
local function created(id, generation, run, attempt, process, nonce, credential, began, latency, kind,
    event_id, at, id_json, head, tail, link, kept)
  generation, run = tonumber(generation), tonumber(run)
  local key = record_key(id)
  local raw = redis.call('GET', key)
  if not raw then return 'gone' end
  local h = parse_header(raw)
  if h.gen ~= generation then
    key = old_key(generation, id)
    raw = redis.call('GET', key)
    if not raw then return 'gone' end
    h = parse_header(raw)
  end
  local has = link_kind()
  if has and has ~= kind then return 'upstream' end
  if not has then set_link_kind(kind) end

  if h.run ~= run and not ENDED[h.state] then return 'run:' .. h.run end
  if kept ~= '1' then report_signal('success', id, process, nonce, credential, began, 0, latency) end

  if ENDED[h.state] then
    local content, resolved, outcome, earlier = sections(raw)
    if string.find(raw, link, HEADER + 1, true) then return NAME[h.state] == 'created' and 'created' or 'late' end
    earlier = with_earlier(earlier, '{"run":' .. run .. ',"status":"created"' .. link .. ',"ended_at":"' .. at .. '","late_link":true}')
    write_record(key, h, content, resolved, outcome, earlier)
    return 'late'
  end

  if h.state == 'c' and (h.holder ~= tonumber(process) or h.attempts ~= tonumber(attempt)) then
    -- Another call is in flight, which this ends: it may make a link, too.
    remove_call(ms(h.holder), id, '', h.changed)
    count_uncertain(h)
  end
  if tonumber(attempt) > h.attempts then h.attempts = tonumber(attempt) end -- Redis lost its start
  redis.call('HINCRBY', account_key(), kept == '1' and 'ended:created' or 'successes', 1)
  conclude(id, key, raw, h, 'C', {
    event = event_id, at = at, id_json = id_json, head = head, tail = tail, middle = link,
  }, kept == '1' and link or link .. ',"took":' .. latency, batch_counts(h.batch))
  return 'created'
end
