-- Uncertain outcomes of attempts.
--
-- uses: duplicates

-- count_uncertain counts that an attempt of the request may have made a link.
local function count_uncertain(h)
  h.dups = h.dups + 1
  count_possible_duplicates(h.batch, 1)
end
