-- created records a link: from any attempt, if the run has no end yet.
--
-- ARGV[1] id, [2] generation, [3] run   ARGV[4] 'real' or 'simulated'
-- ARGV[5] event id, [6] time, [7] id as JSON, [8] head, [9] tail of the event
-- ARGV[11] process, [12] its credentials, [13] when it was marked, [14] ms that the call took
-- ARGV[10] link fields as JSON: ,"link_id":…,"url":…,"expires_at":…
--
-- Returns 'created'; 'late' where no run was open and the link was kept beside
-- it; 'gone' where the record is; 'run:N' where run N is open now: the caller
-- makes that run's event id and comes again; 'upstream' where the account's
-- links are of the other kind, and nothing was written.
local id, run = ARGV[1], tonumber(ARGV[3])
local gen = tonumber(ARGV[2])
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
local upstream = redis.call('HGET', account_key(), 'upstream')
if upstream and upstream ~= ARGV[4] then return 'upstream' end
if not upstream then redis.call('HSET', account_key(), 'upstream', ARGV[4]) end

if h.run ~= run and not ENDED[h.state] then return 'run:' .. h.run end
report('success', id, ARGV[11], ARGV[12], ARGV[13], 0, ARGV[14])

if ENDED[h.state] then
  local content, frozen, outcome, past = lines(raw)
  if string.find(raw, ARGV[10], HEADER + 1, true) then return NAME[h.state] == 'created' and 'created' or 'late' end
  if past ~= '' then past = past .. '\n' end
  past = past .. '{"run":' .. run .. ',"status":"created"' .. ARGV[10] .. ',"ended_at":"' .. ARGV[6] .. '","late_link":true}'
  write(key, h, content, frozen, outcome, past)
  return 'late'
end

redis.call('HINCRBY', account_key(), 'successes', 1)
conclude(id, key, raw, h, 'C', {
  event = ARGV[5], at = ARGV[6], id_json = ARGV[7], head = ARGV[8], tail = ARGV[9], middle = ARGV[10],
}, ARGV[10])
return 'created'
