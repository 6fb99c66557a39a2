-- read gives entries of the intake stream, as many as fit into a number of bytes and
-- at least one. Of a larger entry it gives the first fields, shortened.
--
-- KEYS[1] the requests   ARGV[1] group   ARGV[2] consumer   ARGV[3] how many entries
-- ARGV[4] bytes of all   ARGV[5] bytes of one entry   ARGV[6] fields and
-- ARGV[7] bytes of each text that are given of a larger one
-- ARGV[8] on: ids of entries that the group has given already; none for new entries
-- Returns for each: {id} where it was deleted, {id, fields}, or {id, fields, bytes}
-- where it is larger. An id after the last one given was not looked at.
local stream, group, consumer = KEYS[1], ARGV[1], ARGV[2]
local count, budget, largest, fields, width = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local out, total = {}, 0

local function add(id, flat)
  local size = 0
  for _, text in ipairs(flat) do size = size + #text end
  if size <= largest then
    total = total + size
    out[#out + 1] = { id, flat }
    return
  end
  local first = {}
  for i = 1, math.min(#flat, 2 * fields) do first[i] = string.sub(flat[i], 1, width) end
  total = total + 2 * fields * width
  out[#out + 1] = { id, first, size }
end

local function next_new()
  local reply = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', stream, '>')
  if not reply then return false end
  local entry = reply[1][2][1]
  add(entry[1], entry[2])
  return true
end

local function next_given(id)
  local entry = redis.call('XRANGE', stream, id, id)[1]
  if entry then add(id, entry[2]) else out[#out + 1] = { id } end
  return true
end

for i = 1, count do
  if total >= budget then break end
  local id = ARGV[7 + i]
  if #ARGV == 7 then
    if not next_new() then break end
  elseif not id or not next_given(id) then break end
end
return out
