-- retry starts a new run of a failed request, or lets a held one go on.
--
-- ARGV[1] id, [2] generation, [3] run that ended or is held, [4] its attempts:
-- a held one that went on, and is held again, is another matter
--
-- Returns {state, raw record}: 'waiting', or 'queued' for an interactive one,
-- whose task the caller enqueues; any other state means that nothing changed.
local id = ARGV[1]
local key = record_key(id)
local raw = redis.call('GET', key)
if not raw then return { 'stale', '' } end
local h = parse(raw)
if h.gen ~= tonumber(ARGV[2]) or h.run ~= tonumber(ARGV[3]) or h.attempts ~= tonumber(ARGV[4]) or h.run >= 999 then return { 'stale', raw } end
if h.state ~= 'F' and h.state ~= 'h' then return { NAME[h.state], raw } end

local content, frozen, outcome, past = lines(raw)
past = older(outcome, past)
unshelve(h, id)
if h.state == 'F' then h.run = h.run + 1 end
h.spent, h.seen, h.flag, h.deadline = 0, 0, '-', 'n'
redis.call('ZREM', deadlines_key(), id)
if h.lane == 'i' then
  enqueue(h, id)
else
  move(h, 'w')
  again(h.batch, id)
end
return { NAME[h.state], write(key, h, content, frozen, '', past) }
