-- add adds what a process has counted to the present minute.
--
-- KEYS[1]: the account's tag
-- keep: the ms after which a minute is removed
-- rows: name ('created' or the reason of a fault) and n, how many
-- Returns 'ok'.
--
-- uses: keys, clock
local keep = unpack(ARGV, 1, 1)
local minute = tag .. ':activity:' .. ms(math.floor(now / 60000))
for i = 2, #ARGV, 2 do
  local name, n = unpack(ARGV, i, i + 1)
  redis.call('HINCRBY', minute, name, n)
end
redis.call('PEXPIRE', minute, keep)
return 'ok'
