-- retry starts a new run of a failed request, or continues the run of a held one. A
-- request with a late link, which came when no run was open, is not called: its run ends
-- as created with that link.
--
-- KEYS[1]: the account's tag
-- id, generation
-- run: the run that failed or is held
-- attempts: of the request; a held request that was retried and is held again has more
-- lane: 'b' to move an interactive request to the bulk lane, else ''
-- event_id, at (RFC 3339), id_json, head, tail: of the event that publishes a late link,
--   see outcome.lua; event_id is '' in the first call
-- Returns {state, record, changed}. state is 'waiting'; 'queued' for an interactive
-- request, whose task the caller enqueues; 'created' with a late link; 'late' if there is
-- a late link and no event; 'stale' if another run is open. changed is '1' if the request
-- was changed, else ''.
--
-- uses: keys, record, counters, operator_lists, turn, feeding, outcome, mentions, ended
local id, generation, run, attempts, lane, event_id, at, id_json, head, tail = unpack(ARGV)
local key = record_key(id)
local raw = redis.call('GET', key)
if not raw then return { 'stale', '', '' } end
local h = parse_header(raw)
if h.gen ~= tonumber(generation) or h.run ~= tonumber(run) or h.attempts ~= tonumber(attempts) or h.run >= 999 then
  return { 'stale', raw, '' }
end
if h.state ~= 'F' and h.state ~= 'h' then return { NAME[h.state], raw, '' } end

local content, resolved, outcome, earlier = sections(raw)
local link
for line in string.gmatch(earlier, '[^\n]+') do
  link = string.match(line, '^{"run":%d+,"status":"created"(,.-),"ended_at":"[^"]*","late_link":true}$') or link
end
if link and event_id == '' then return { 'late', raw, '' } end

earlier = with_earlier(earlier, outcome)
unlist_for_operator(h, id)
if h.state == 'F' then
  h.run = h.run + 1
  add_mention(id, 'm' .. minute_of(h.changed))
end
h.charged, h.seen, h.flag = 0, 0, '-'
if link then
  redis.call('HINCRBY', account_key(), 'ended:created', 1)
  conclude(id, key, format_header(h) .. content .. '\n' .. resolved .. '\n\n' .. earlier, h, 'C', {
    event = event_id, at = at, id_json = id_json, head = head, tail = tail, middle = link,
  }, link)
  return { NAME.C, redis.call('GET', key), '1' }
end
h.deadline = 'n'
redis.call('ZREM', deadlines_key(), id)
if lane ~= '' then h.lane = lane end
if h.lane == 'i' then
  enqueue(h, id)
else
  move(h, 'w')
  requeue(h.batch, id)
end
return { NAME[h.state], write_record(key, h, content, resolved, '', earlier), '1' }
