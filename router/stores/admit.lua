-- Look up the cache and, on a miss, choose what the budgets carry and hold its price: one atomic step.
--
-- KEYS  1 marker that the counters are whole   2 cache entry   3 this worker's pending requests
--       4.. one counter hash per budget
-- ARGV  1 request id   2 provisional record   3 '1' to look up the cache   4 now, Unix milliseconds
--       5 how many options to choose at most   6 number of options   7 parts of a rolling window
--       8 what part of a hard budget's room an answer without a limit may take: 1 / this
--       9 '1' if a spent budget refuses hits, too   10 the counters, described for the janitor
--       then per option: base_nusd, nusd_per_token, base_tokens, tokens_per_token, longest, least, rank
--       then per budget: unit (u, t, r or p), limit, flags (h hard, s strict, w watched), downgrades_from (-1 never),
--         downgrade_rank, expires_at_s (0 by itself), bucket_ms (0 not rolling), mask of its options ('' all)
--
-- Returns {'hit', entry}
--       | {'admitted', nusd, tokens, epoch, {options}, {caps}, {spent, reserved of each watched counter}, held amounts}
--       | {'refused', budget, 'limit' or 'tier', spent, reserved, needed, last bucket that must go or ''}
--       | {'rebuilding'}; options and budgets count from 1.
-- A pending entry is "<held amounts, spaced>\n<first option>\n<nusd> <tokens>\n<counters described>\n<record>".

local OPTION, BUDGET = 7, 8
local id, record, now = ARGV[1], ARGV[2], tonumber(ARGV[4])
local most, options = tonumber(ARGV[5]), tonumber(ARGV[6])
local budgets = #KEYS - 3
local first_budget = 10 + options * OPTION
local max, min, floor, huge = math.max, math.min, math.floor, math.huge

local function whole(number)
  return string.format('%.0f', number)
end

local function hit()
  local entry = redis.call('GET', KEYS[2])
  if entry then
    redis.call('HSET', KEYS[3], id, '\n0\n0 0\n[]\n' .. record)
  end
  return entry
end

local looks_up, strict = ARGV[3] == '1', ARGV[9] == '1'
if looks_up and not strict then
  local entry = hit()
  if entry then
    return {'hit', entry}
  end
end

local epoch = ''
if budgets > 0 then
  epoch = redis.call('GET', KEYS[1])
  if not epoch then
    return {'rebuilding'}
  end
end

-- Takes out of a rolling counter what has left the window; all that is younger than the parts of it stays.
local function roll(key, bucket_ms, spent)
  local bucket = floor(now / bucket_ms)
  local oldest = bucket - tonumber(ARGV[7])
  local fields = redis.call('HGETALL', key)
  for f = 1, #fields, 2 do
    local number = tonumber(string.match(fields[f], '^b(%d+)$'))
    if number and number < oldest then
      spent = spent - tonumber(fields[f + 1])
      redis.call('HDEL', key, fields[f])
    end
  end
  redis.call('HSET', key, 'spent', whole(spent), 'oldest', whole(oldest))
  -- Longer than any request: a reservation must not expire under it.
  redis.call('EXPIREAT', key, floor((now + 2 * tonumber(ARGV[7]) * bucket_ms) / 1000) + 172800)
  return spent
end

local unit, limit, room, spent, reserved, ceiling, mask, fresh, hard = {}, {}, {}, {}, {}, {}, {}, {}, {}

-- Once the parts up to this one have left a rolling counter, there is room; '' if none suffices or it does not roll.
local function last_to_go(b, needed)
  needed = max(needed, 1) -- what is free of charge waits until the counter is no longer spent
  if ARGV[first_budget + (b - 1) * BUDGET + 7] == '0' or limit[b] < needed then
    return ''
  end
  local fields, parts = redis.call('HGETALL', KEYS[3 + b]), {}
  for f = 1, #fields, 2 do
    local number = tonumber(string.match(fields[f], '^b(%d+)$'))
    if number then
      parts[#parts + 1] = {number, tonumber(fields[f + 1])}
    end
  end
  table.sort(parts, function(one, other) return one[1] < other[1] end)
  local left = limit[b] - spent[b] - reserved[b]
  for _, part in ipairs(parts) do
    left = left + part[2]
    if left >= needed then
      return whole(part[1])
    end
  end
  return ''
end

-- ---- where the budgets stand ----------------------------------------------------------------------

for b = 1, budgets do
  local at = first_budget + (b - 1) * BUDGET
  local key = KEYS[3 + b]
  local flags, bucket_ms = ARGV[at + 3], tonumber(ARGV[at + 7])
  local counter = redis.call('HMGET', key, 'spent', 'reserved', 'oldest')
  unit[b], limit[b], mask[b] = ARGV[at + 1], tonumber(ARGV[at + 2]), ARGV[at + 8]
  spent[b], reserved[b] = tonumber(counter[1] or 0), tonumber(counter[2] or 0)
  fresh[b] = not counter[1] and not counter[2]
  if bucket_ms > 0 and tonumber(counter[3] or 0) < floor(now / bucket_ms) - tonumber(ARGV[7]) then
    spent[b] = roll(key, bucket_ms, spent[b])
  end
  hard[b] = string.find(flags, 'h', 1, true) ~= nil
  room[b] = huge
  if hard[b] then
    room[b] = limit[b] - spent[b] - reserved[b]
    -- A spent budget refuses what is free of charge, too: its window is closed.
    if limit[b] <= spent[b] then
      room[b] = -1
      if looks_up and string.find(flags, 's', 1, true) then
        return {'refused', b, 'limit', whole(spent[b]), whole(reserved[b]), '0', last_to_go(b, 0)}
      end
    end
  end
  local from = tonumber(ARGV[at + 4])
  ceiling[b] = (from >= 0 and spent[b] >= from) and tonumber(ARGV[at + 5]) or huge
end

if looks_up and strict then
  local entry = hit()
  if entry then
    return {'hit', entry}
  end
end

-- ---- which options fit ----------------------------------------------------------------------------

local chosen, touched = {}, {}
local base_nusd, base_tokens, top_nusd, top_tokens = 0, 0, 0, 0
local cheapest, blamed, why, needed = huge, 1, 'limit', 0

local function needs(b, nusd, tokens)
  if unit[b] == 'u' then
    return nusd
  end
  return unit[b] == 't' and tokens or 1
end

for o = 1, options do
  if #chosen == most then
    break
  end
  local at = 10 + (o - 1) * OPTION
  local least = tonumber(ARGV[at + 6])
  local base_u, base_t = base_nusd + tonumber(ARGV[at + 1]), base_tokens + tonumber(ARGV[at + 3])
  local top_u, top_t = max(top_nusd, tonumber(ARGV[at + 2]) * least), max(top_tokens, tonumber(ARGV[at + 4]) * least)
  local rank = tonumber(ARGV[at + 7])
  local blocker, reason
  for b = 1, budgets do
    local counts = mask[b] == '' or string.byte(mask[b], o) == 49
    if counts and rank > ceiling[b] then
      blocker, reason = b, 'tier'
      break
    end
    if (counts or touched[b]) and needs(b, base_u + top_u, base_t + top_t) > room[b] then
      blocker, reason = b, 'limit'
      break
    end
  end
  if not blocker then
    chosen[#chosen + 1] = o
    base_nusd, base_tokens, top_nusd, top_tokens = base_u, base_t, top_u, top_t
    for b = 1, budgets do
      touched[b] = touched[b] or mask[b] == '' or string.byte(mask[b], o) == 49
    end
  elseif #chosen == 0 and base_u + top_u < cheapest then
    cheapest, blamed, why, needed = base_u + top_u, blocker, reason, needs(blocker, base_u + top_u, base_t + top_t)
  end
end

if #chosen == 0 then
  local left = limit[blamed] - spent[blamed]
  if why == 'limit' and (unit[blamed] == 'u' or unit[blamed] == 't') and left * 20 < limit[blamed] then
    -- As good as used up: people are told of it, though its last cents will never be spent. What is held may come back.
    redis.call('HSET', KEYS[3 + blamed], 'exhausted', ARGV[4])
  end
  return {'refused', blamed, why, whole(spent[blamed]), whole(reserved[blamed]), whole(needed),
    why == 'limit' and last_to_go(blamed, needed) or ''}
end

-- ---- how long the answers may be -------------------------------------------------------------------

local share = tonumber(ARGV[8])
local pays_nusd, pays_tokens = huge, huge
for b = 1, budgets do
  if touched[b] and hard[b] then
    if unit[b] == 'u' then
      pays_nusd = min(pays_nusd, max(floor(room[b] / share), base_nusd + top_nusd))
    elseif unit[b] == 't' then
      pays_tokens = min(pays_tokens, max(floor(room[b] / share), base_tokens + top_tokens))
    end
  end
end

local caps = {}
top_nusd, top_tokens = 0, 0
for c, o in ipairs(chosen) do
  local at = 10 + (o - 1) * OPTION
  local per_nusd, per_token, longest = tonumber(ARGV[at + 2]), tonumber(ARGV[at + 4]), tonumber(ARGV[at + 5])
  local cap = longest
  if per_nusd > 0 and pays_nusd < huge then
    cap = min(cap, floor((pays_nusd - base_nusd) / per_nusd))
  end
  if pays_tokens < huge then
    cap = min(cap, floor((pays_tokens - base_tokens) / per_token))
  end
  cap = max(cap, tonumber(ARGV[at + 6]))
  caps[c] = cap
  top_nusd, top_tokens = max(top_nusd, per_nusd * cap), max(top_tokens, per_token * cap)
end

-- ---- hold ------------------------------------------------------------------------------------------

local nusd, tokens = base_nusd + top_nusd, base_tokens + top_tokens
local held, states = {}, {}
for b = 1, budgets do
  local at = first_budget + (b - 1) * BUDGET
  local amount = touched[b] and needs(b, nusd, tokens) or 0
  held[b] = whole(amount)
  if amount > 0 then
    redis.call('HINCRBY', KEYS[3 + b], 'reserved', held[b])
    if fresh[b] and ARGV[at + 6] ~= '0' then
      redis.call('EXPIREAT', KEYS[3 + b], ARGV[at + 6])
    end
  end
  if string.find(ARGV[at + 3], 'w', 1, true) then
    states[#states + 1] = whole(spent[b])
    states[#states + 1] = whole(reserved[b] + amount)
  end
end
local amounts = table.concat(held, ' ')
redis.call('HSET', KEYS[3], id,
  amounts .. '\n' .. chosen[1] .. '\n' .. whole(nusd) .. ' ' .. whole(tokens) .. '\n' .. ARGV[10] .. '\n' .. record)
return {'admitted', whole(nusd), whole(tokens), epoch, chosen, caps, states, amounts}
