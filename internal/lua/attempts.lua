-- The attempts of a run that brought no link, the latest MOST_ATTEMPTS of them, as the
-- fragment ,"attempts":[{"n":…},…] of the run's outcome. The texts within are JSON, in
-- which a quotation mark is escaped: the marks that are searched for occur in no text.
--
-- uses: clock
local MOST_ATTEMPTS = 10

-- attempts_of returns the fragment of an outcome, or ''.
local function attempts_of(outcome) return string.match(outcome, ',"attempts":%[.*%]') or '' end

-- with_attempt adds the current attempt of a request to a fragment.
--
-- h: the header, of the request in its call
-- took: until the attempt's outcome, ms; '' if the process that made it ended before
-- why: the reason and message, as a JSON fragment that begins with a comma, or ''
-- uncertain: '1' if it may have created a link
local function with_attempt(attempts, h, took, why, uncertain)
  local entry = '{"n":' .. h.attempts .. ',"at":' .. ms(h.changed)
  if took ~= '' then entry = entry .. ',"took":' .. took end
  entry = entry .. why
  if uncertain == '1' then entry = entry .. ',"uncertain":true' end
  entry = entry .. '}'
  if attempts == '' then return ',"attempts":[' .. entry .. ']' end
  local _, count = string.gsub(attempts, '{"n":', '')
  if count >= MOST_ATTEMPTS then attempts = string.gsub(attempts, '%[.-},{"n":', '[{"n":', 1) end
  return string.sub(attempts, 1, -2) .. ',' .. entry .. ']'
end

-- outcome_with_attempt adds the current attempt to the outcome, or '', of an open run,
-- which has its attempts at its end.
local function outcome_with_attempt(outcome, h, took, why, uncertain)
  local attempts = attempts_of(outcome)
  local before = outcome == '' and '{"run":' .. h.run or string.sub(outcome, 1, -2 - #attempts)
  return before .. with_attempt(attempts, h, took, why, uncertain) .. '}'
end
