-- lua/keys.lua
local tag = KEYS[1]
local LANE = { i = 'interactive', b = 'bulk' }
local function record_key(id) return tag .. '/' .. id end
local function old_key(generation, id) return tag .. ':old:' .. generation .. ':' .. id end
local function account_key() return tag .. ':account' end
local function batch_key(number) return tag .. ':batch:' .. number end
local function queued_key(lane) return tag .. ':queued:' .. LANE[lane] end
local function deadlines_key() return tag .. ':deadlines' end
-- lua/batch_order.lua
local function order_key(batch) return tag .. ':order:' .. batch end
-- erasure/erase_rows.lua
local batch = unpack(ARGV, 1, 1)
local order, removed = order_key(batch), 0
for i = 2, #ARGV do
  local chunk = unpack(ARGV, i, i)
  local text = redis.call('HGET', order, chunk)
  if text then
    local before = removed
    text = string.gsub(text, '(\n%d+) ([^\n]+)', function(row, id)
      if redis.call('EXISTS', record_key(id)) == 1 then return nil end
      removed = removed + 1
      return row
    end)
    if removed > before then redis.call('HSET', order, chunk, text) end
  end
end
return removed
