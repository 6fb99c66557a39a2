-- read_columns reads the headers of records, and the reasons of their outcomes if wanted,
-- for callers that count very many: only these leave Redis.
--
-- KEYS[1]: the account's tag
-- reasons: '1' if the reasons are wanted
-- For each row: id
-- Returns for each row the header, '' without a record, and the reason, '' without one.
--
-- uses: keys, record
local reasons = unpack(ARGV, 1, 1)
local found = {}
for i = 2, #ARGV do
  local id = unpack(ARGV, i, i)
  local header, reason = '', ''
  if reasons == '1' then
    local raw = redis.call('GET', record_key(id)) or ''
    local _, _, outcome = sections(raw)
    header = string.sub(raw, 1, HEADER)
    -- A quote within a value of the JSON is escaped, so that only the key can match.
    reason = string.match(outcome, '"reason":"([^"]*)"') or ''
  else
    header = redis.call('GETRANGE', record_key(id), 0, HEADER - 1)
  end
  found[#found + 1] = header
  found[#found + 1] = reason
end
return found
