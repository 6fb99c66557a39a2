-- pass makes a queued request's turn the next one, so that another process can
-- take it. ARGV[1] id, [2] generation, [3] run, [4] turn
-- Returns {lane, ref} of the new turn, whose task the caller enqueues; {} where
-- the turn stands for nothing any more.
--
-- uses: keys, record, turn
local id = ARGV[1]
local h = load(id)
if not h or h.state ~= 'q' or h.gen ~= tonumber(ARGV[2]) or h.run ~= tonumber(ARGV[3]) or h.turn ~= tonumber(ARGV[4]) then
  return {}
end
enqueue(h, id)
save(record_key(id), h)
return { LANE[h.lane], id .. ':' .. h.gen .. ':' .. h.run .. ':' .. h.turn }
