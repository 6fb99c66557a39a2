-- Results that a script needs again and again: most requests of a script have the same
-- numbers, and looking a result up costs less than computing it again.

-- memo returns a table of the results of a function.
local function memo(f)
  return setmetatable({}, { __index = function(results, x)
    results[x] = f(x)
    return results[x]
  end })
end
