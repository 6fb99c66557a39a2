-- The commands of a script that makes many transitions. Those that each transition sends
-- are collected, and sent together for all: reads and writes of records, changes of
-- sorted sets, increments, and additions to lists, whose replies no transition uses. Any
-- other command on a key follows those that were collected for the key. So each command
-- sees what was written before it, as if nothing were collected. A key always holds the
-- same type; a collected command fails, if it does, when it is sent.
--
-- A script names this library first, since the libraries after it call Redis through it.
local server = redis

-- By key: the record; whether it was changed; the new score of each changed member of a
-- sorted set, false if it is removed; the increment of each field of a hash; what is added
-- to a list.
local records, changed, members, increments, pushed = {}, {}, {}, {}, {}

local function send_record(key)
  if changed[key] then server.call('SET', key, records[key]) end
  records[key], changed[key] = nil, nil
end

local function send_members(key)
  local add, remove = {}, {}
  for member, score in pairs(members[key]) do
    if score then add[#add + 1], add[#add + 2] = score, member else remove[#remove + 1] = member end
  end
  members[key] = nil
  if #add > 0 then server.call('ZADD', key, unpack(add)) end
  if #remove > 0 then server.call('ZREM', key, unpack(remove)) end
end

local function send_increments(key)
  for field, n in pairs(increments[key]) do server.call('HINCRBY', key, field, n) end
  increments[key] = nil
end

local function send_pushed(key)
  server.call('RPUSH', key, unpack(pushed[key]))
  pushed[key] = nil
end

local function set_member(key, member, score)
  if not members[key] then members[key] = {} end
  members[key][member] = score
end

-- Each function is called with the arguments of its command after the key, and returns
-- whether it has handled the command, and the reply.
local COLLECTED = {
  GET = function(key)
    if records[key] == nil then records[key] = server.call('GET', key) end
    return true, records[key]
  end,
  SET = function(key, raw, option)
    if option then return false end
    records[key], changed[key] = raw, true
    return true
  end,
  SETRANGE = function(key, offset, text)
    if offset ~= 0 or not records[key] then return false end
    records[key], changed[key] = text .. string.sub(records[key], #text + 1), true
    return true
  end,
  ZADD = function(key, score, member, more)
    if more or not tonumber(score) then return false end
    set_member(key, member, score)
    return true
  end,
  ZREM = function(key, member, more)
    if more then return false end
    set_member(key, member, false)
    return true
  end,
  HINCRBY = function(key, field, n)
    if not increments[key] then increments[key] = {} end
    increments[key][field] = (increments[key][field] or 0) + n
    return true
  end,
  RPUSH = function(key, value, more)
    if more then return false end
    if not pushed[key] then pushed[key] = {} end
    table.insert(pushed[key], value)
    return true
  end,
}

local function call(command, key, ...)
  local collect = COLLECTED[command]
  if collect then
    local done, reply = collect(key, ...)
    if done then return reply end
  end
  if key then
    send_record(key)
    if members[key] then send_members(key) end
    if increments[key] then send_increments(key) end
    if pushed[key] then send_pushed(key) end
    return server.call(command, key, ...)
  end
  return server.call(command)
end
local redis = { call = call }

-- read_records reads records together.
local function read_records(keys)
  for i, raw in ipairs(server.call('MGET', unpack(keys))) do
    if raw then records[keys[i]] = raw end -- otherwise GET fails if the key is no string
  end
end

-- send_collected sends all commands that were collected. A script calls it once, at the end.
local function send_collected()
  local written = {}
  for key in pairs(changed) do written[#written + 1], written[#written + 2] = key, records[key] end
  if #written > 0 then server.call('MSET', unpack(written)) end
  changed = {}
  for key in pairs(members) do send_members(key) end
  for key in pairs(increments) do send_increments(key) end
  for key in pairs(pushed) do send_pushed(key) end
end
