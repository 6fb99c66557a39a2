-- Records that may be unreadable: they must neither stop a script that reads many
-- records, nor be called again and again.
--
-- uses: keys, record
local COLUMNS, NEW_DIGITS = '^[12][wqchCFX][ib][%-x]%d+()[%-dn]', '^n%d+()'

-- unreadable returns why a record cannot be read: 'newer' if another version wrote it,
-- 'poison' if its header is broken; nil if it can.
local function unreadable(raw)
  local version = string.sub(raw, 1, 1)
  if version == 'n' then
    if string.match(raw, NEW_DIGITS) ~= NEW_HEADER + 1 then return 'poison' end
  elseif version ~= '1' and version ~= '2' then
    return 'newer'
  elseif string.match(raw, COLUMNS) ~= HEADER then
    return 'poison'
  end
end

-- load_readable is load_header for records that may be unreadable: then it returns nil and why.
local function load_readable(id)
  local raw = redis.call('GETRANGE', record_key(id), 0, HEADER - 1)
  if raw == '' then return nil end
  local why = unreadable(raw)
  if why then return nil, why end
  return parse_header(raw)
end
