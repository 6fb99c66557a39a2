-- created records a link: from any attempt, if the run has no end yet.
--
-- attempt, process, nonce, credential, marked, took: which call, whose, of which
-- grant, with which credentials, when it was marked, and how many ms it took
-- upstream: 'real' or 'simulated'
-- event, at, id_json, event_head, tail: of the event
-- link: its fields as JSON: ,"link_id":…,"url":…,"expires_at":…
-- kept '1': no call brought it now, an earlier one did and it was kept
--
-- Returns 'created'; 'late' where no run was open and the link was kept beside
-- it; 'gone' where the record is; 'run:N' where run N is open now: the caller
-- makes that run's event id and comes again; 'upstream' where the account's
-- links are of the other kind, and nothing was written.
--
-- uses: keys, clock, record, uncertain, outcome, calls, signals, commit_state
local function created(id, gen, run, attempt, process, nonce, credential, marked, took, upstream,
    event, at, id_json, event_head, tail, link, kept)
  gen, run = tonumber(gen), tonumber(run)
  local key = record_key(id)
  local raw = redis.call('GET', key)
  if not raw then return 'gone' end
  local h = parse(raw)
  if h.gen ~= gen then
    key = old_key(gen, id)
    raw = redis.call('GET', key)
    if not raw then return 'gone' end
    h = parse(raw)
  end
  local has = link_kind()
  if has and has ~= upstream then return 'upstream' end
  if not has then link_kind(upstream) end

  if h.run ~= run and not ENDED[h.state] then return 'run:' .. h.run end
  if kept ~= '1' then report('success', id, process, nonce, credential, marked, 0, took) end

  if ENDED[h.state] then
    local content, resolved, outcome, earlier = sections(raw)
    if string.find(raw, link, HEADER + 1, true) then return NAME[h.state] == 'created' and 'created' or 'late' end
    if earlier ~= '' then earlier = earlier .. '\n' end
    earlier = earlier .. '{"run":' .. run .. ',"status":"created"' .. link .. ',"ended_at":"' .. at .. '","late_link":true}'
    write(key, h, content, resolved, outcome, earlier)
    return 'late'
  end

  if h.state == 'c' and (h.holder ~= tonumber(process) or h.attempts ~= tonumber(attempt)) then
    -- Another call is out, which this ends: it may make a link, too.
    remove_call(ms(h.holder), id, '', h.changed)
    count_uncertain(h)
  end
  if tonumber(attempt) > h.attempts then h.attempts = tonumber(attempt) end -- Redis lost its mark
  redis.call('HINCRBY', account_key(), kept == '1' and 'ended:created' or 'successes', 1)
  conclude(id, key, raw, h, 'C', {
    event = event, at = at, id_json = id_json, head = event_head, tail = tail, middle = link,
  }, link, batch_counts(h.batch))
  return 'created'
end
