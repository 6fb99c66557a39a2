-- A turn: one enqueueing of a request in the asynq queue of its lane. The scripts move
-- the record; their callers enqueue the task.
--
-- uses: keys, clock, counters

-- turn_ref names a turn. It is the task's id.
local function turn_ref(id, h) return id .. ':' .. ms(h.gen) .. ':' .. ms(h.run) .. ':' .. ms(h.turn) end

local function next_turn(h) h.turn = (h.turn + 1) % 10000 end

-- enqueue makes a request queued for its next turn.
local function enqueue(h, id)
  move(h, 'q')
  next_turn(h)
  redis.call('ZADD', queued_key(h.lane), ms(now), id)
end
