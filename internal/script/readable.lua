-- What cannot be read must neither stop a script that looks at many records, nor
-- be called again and again.
local COLUMNS = '^1[wqchCFX][ib][%-x]' .. string.rep('%d', 69) .. '[%-dn]'

-- unreadable says why a record cannot be read: 'newer' where another version
-- wrote it, 'poison' where its header is broken; nil where it can.
local function unreadable(raw)
  if string.sub(raw, 1, 1) ~= '1' then return 'newer' end
  if not string.find(raw, COLUMNS) then return 'poison' end
end

-- peek is load for records that may be unreadable; it gives nil and why.
local function peek(id)
  local raw = redis.call('GETRANGE', record_key(id), 0, HEADER - 1)
  if raw == '' then return nil end
  local why = unreadable(raw)
  if why then return nil, why end
  return parse(raw)
end

local function ref(id, h) return id .. ':' .. h.gen .. ':' .. h.run .. ':' .. h.turn end

-- gone says that the attempt of a request that is being called is under way no
-- more. Its process is dead, or it lives and had no handler for the turn at its
-- last heartbeat, long after the mark: then Redis has lost how the attempt ended.
--
-- unbroken is for how many ms the judge has reached Redis without a break, dead
-- after how many ms of silence a process is dead. Where Redis' clock has stepped since
-- the judge last heard of it, nobody can be judged; a heartbeat or a mark that is far in
-- the future is from before the clock went back.
local function gone(h, id, unbroken, dead)
  if stepped() then unbroken = 0 end
  local beat = tonumber(redis.call('ZSCORE', tag .. ':workers', h.holder) or 0)
  if math.abs(now - beat) > dead then return unbroken >= dead end
  return math.abs(beat - h.changed) > dead and redis.call('SISMEMBER', tag .. ':handlers:' .. h.holder, ref(id, h)) == 0
end
