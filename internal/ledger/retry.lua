-- retry starts a new run of a failed request, or lets a held one go on. A request
-- whose record keeps a late link, which came when no run was open, is not called: its
-- run ends as created with that link.
--
-- ARGV[1] id, [2] generation, [3] run that ended or is held, [4] its attempts:
-- a held one that went on, and is held again, is another matter
-- ARGV[5] event id of the run that is open then, [6] time, [7] id as JSON, [8] head,
-- [9] tail: of the event that publishes a late link; the id is '' at first
--
-- Returns {state, raw record, changed}: 'waiting', or 'queued' for an interactive one,
-- whose task the caller enqueues; 'created' with a late link; 'late' where there is one
-- and the event is missing. changed is '1' unless nothing was changed.
--
-- uses: keys, record, counters, operator_lists, turn, feeding, outcome
local id = ARGV[1]
local key = record_key(id)
local raw = redis.call('GET', key)
if not raw then return { 'stale', '', '' } end
local h = parse(raw)
if h.gen ~= tonumber(ARGV[2]) or h.run ~= tonumber(ARGV[3]) or h.attempts ~= tonumber(ARGV[4]) or h.run >= 999 then return { 'stale', raw, '' } end
if h.state ~= 'F' and h.state ~= 'h' then return { NAME[h.state], raw, '' } end

local content, resolved, outcome, earlier = sections(raw)
local link
for line in string.gmatch(earlier, '[^\n]+') do
  link = string.match(line, '^{"run":%d+,"status":"created"(,.-),"ended_at":"[^"]*","late_link":true}$') or link
end
if link and ARGV[5] == '' then return { 'late', raw, '' } end

earlier = with_earlier(earlier, outcome)
unlist_for_operator(h, id)
if h.state == 'F' then h.run = h.run + 1 end
h.charged, h.seen, h.flag = 0, 0, '-'
if link then
  redis.call('HINCRBY', account_key(), 'ended:created', 1)
  conclude(id, key, header(h) .. content .. '\n' .. resolved .. '\n\n' .. earlier, h, 'C', {
    event = ARGV[5], at = ARGV[6], id_json = ARGV[7], head = ARGV[8], tail = ARGV[9], middle = link,
  }, link)
  return { NAME.C, redis.call('GET', key), '1' }
end
h.deadline = 'n'
redis.call('ZREM', deadlines_key(), id)
if h.lane == 'i' then
  enqueue(h, id)
else
  move(h, 'w')
  requeue(h.batch, id)
end
return { NAME[h.state], write(key, h, content, resolved, '', earlier), '1' }
