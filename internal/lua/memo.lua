-- Results that a script needs again and again: most requests of a script have the same
-- numbers, and looking a result up costs less than computing it again.

-- memo returns a table of the results of a function. It does not store those of numbers from
-- 256 to 2^26: for such a key, the Lua of the embedded Redis fills an array up to it.
local function memo(f)
  return setmetatable({}, { __index = function(results, x)
    local result = f(x)
    if type(x) ~= 'number' or x < 256 or x > 67108864 then results[x] = result end
    return result
  end })
end
