-- unlist takes the ids of requests that are not kept out of what is to be fed
-- again: an empty one is passed over.
-- ARGV[1] the list   ARGV[2] how many of its end to pass over, [3] to look at
-- Returns {how many there were to look at, how many ids went}. The end is where it
-- grows, and its beginning is fed: what comes or goes makes nothing be missed that
-- is looked for from the end on.
--
-- uses: keys
local from = -1 - ARGV[2]
local ids, cut = redis.call('LRANGE', ARGV[1], from - ARGV[3] + 1, from), 0
for i, id in ipairs(ids) do
  if id ~= '' and redis.call('EXISTS', record_key(id)) == 0 then
    redis.call('LSET', ARGV[1], from - #ids + i, '')
    cut = cut + 1
  end
end
return { #ids, cut }
