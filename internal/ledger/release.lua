-- release gives the turn of a queued request back: it becomes the next turn, which
-- another process may take.
--
-- KEYS[1]: the account's tag
-- id, generation, run, turn
-- Returns {lane, ref} of the new turn, whose task the caller enqueues; {} if the turn is
-- not the request's present one.
--
-- uses: keys, record, turn
local id, generation, run, turn = unpack(ARGV)
local h = load_header(id)
if not h or h.state ~= 'q' or h.gen ~= tonumber(generation) or h.run ~= tonumber(run) or h.turn ~= tonumber(turn) then
  return {}
end
enqueue(h, id)
save_header(record_key(id), h)
return { LANE[h.lane], turn_ref(id, h) }
