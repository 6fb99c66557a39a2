-- intake/read.lua

local group, consumer, count, max_bytes, max_entry, max_fields, max_text = unpack(ARGV, 1, 7)
max_fields, max_text = tonumber(max_fields), tonumber(max_text)
local out, total = {}, 0
local function add(id, flat)
  local size = 0
  for _, text in ipairs(flat) do size = size + #text end
  if size <= tonumber(max_entry) then
    total = total + size
    out[#out + 1] = { id, flat }
    return
  end
  local first = {}
  for i = 1, math.min(#flat, 2 * max_fields) do first[i] = string.sub(flat[i], 1, max_text) end
  total = total + 2 * max_fields * max_text
  out[#out + 1] = { id, first, size }
end
local function full() return #out >= tonumber(count) or total >= tonumber(max_bytes) end
if #ARGV == 7 then
  while not full() do
    local reply = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', KEYS[1], '>')
    if not reply then break end
    local entry = reply[1][2][1]
    add(entry[1], entry[2])
  end
end
for i = 8, #ARGV do
  local id = unpack(ARGV, i, i)
  if full() then break end
  local entry = redis.call('XRANGE', KEYS[1], id, id)[1]
  if entry then add(id, entry[2]) else out[#out + 1] = { id } end
end
return out
