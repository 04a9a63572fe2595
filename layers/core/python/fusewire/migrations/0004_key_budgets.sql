-- The ledger's statements again, now for two budgets in one: the company's and the caller's key's. What 0002 says of
-- round trips, snapshots and arguments still holds. New in the arguments: an entry's key_id, a candidate's tokens (its
-- worst case, for limits per minute), "downgrade" (the candidates that take over from 80 % on), "introduce" (the
-- settings, once per environment).
--
-- Lock order: the company's windows by ascending id, then keys' windows, then ledger rows and rollups, which only
-- somebody with their window locked touches, then provider_health by name. Whoever locks more than one key's window
-- holds the company's open window, so two such statements are never under way at once. audit_head is locked by them, by
-- a reset, or by a statement that touches nothing of the above afterwards.
--
-- Windows are locked FOR NO KEY UPDATE: an entry's foreign key must not wait for its window.

DROP FUNCTION ledger_lock_window(jsonb, jsonb);
DROP FUNCTION ledger_expire(budget_window, jsonb, jsonb);
DROP FUNCTION ledger_record_state(budget_window, jsonb, jsonb, uuid);
DROP FUNCTION ledger_end_entry(jsonb, jsonb);
DROP FUNCTION ledger_budget_json(budget_window, jsonb);
DROP FUNCTION ledger_turn_window(budget_window, text, timestamptz, jsonb, jsonb);
DROP FUNCTION ledger_state(numeric, jsonb);

-- cap: USD, NULL for a key without a budget of its own, which is always CLOSED.
CREATE FUNCTION ledger_state(spent numeric, cap numeric, settings jsonb) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN spent >= cap * (settings->>'open')::numeric THEN 'OPEN'
        WHEN spent >= cap * (settings->>'alert')::numeric THEN 'HALF_OPEN'
        ELSE 'CLOSED'
    END
$$;

-- The limit in force of a budget: from the settings, or from the key as it is now.
CREATE FUNCTION ledger_cap(budget text, settings jsonb) RETURNS numeric
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF budget = 'global' THEN RETURN (settings->>'limit')::numeric; END IF;
    RETURN (SELECT k.monthly_budget_usd FROM api_key k WHERE k.id = budget);
END $$;

CREATE OR REPLACE FUNCTION ledger_window_json(w budget_window) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'id', w.id, 'budget', w.budget, 'opened_at', w.opened_at, 'opened_by', w.opened_by, 'resets_at', w.resets_at,
        'closed_at', w.closed_at, 'spent', w.spent, 'reserved', w.reserved, 'request_count', w.request_count)
$$;

CREATE FUNCTION ledger_budget_json(w budget_window, cap numeric, settings jsonb) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT ledger_window_json(w) || jsonb_build_object('state', ledger_state(w.spent, cap, settings), 'limit', cap)
$$;

-- Closes a window that the caller has locked, opens its successor, audits both. Returns the new window, locked.
CREATE FUNCTION ledger_turn_window(old budget_window, why text, at timestamptz, settings jsonb, audit_entry jsonb)
RETURNS budget_window LANGUAGE plpgsql AS $$
DECLARE
    fresh budget_window;
BEGIN
    UPDATE budget_window SET closed_at = at WHERE id = old.id RETURNING * INTO old;
    INSERT INTO budget_window (budget, opened_at, opened_by, resets_at, reset_id, minute_at, minute_requests, minute_tokens)
    VALUES (old.budget, clock_timestamp(), why, ledger_month_end(clock_timestamp(), settings->>'timezone'),
            (audit_entry->>'id')::uuid, old.minute_at, old.minute_requests, old.minute_tokens)
    RETURNING * INTO fresh;
    PERFORM audit_append(
        clock_timestamp(), COALESCE(audit_entry->>'actor', 'system'), 'budget.reset', audit_entry->>'source_ip',
        audit_entry->>'request_id', ledger_window_json(old),
        ledger_window_json(fresh) || jsonb_build_object('why', why, 'reason', audit_entry->>'reason'));
    RETURN fresh;
END $$;

-- A budget's open window, locked. Opens one at the first use; closes one whose month has ended (then "turned" tells it).
CREATE FUNCTION ledger_lock_window(name text, settings jsonb, INOUT turned jsonb, OUT w budget_window)
LANGUAGE plpgsql AS $$
DECLARE
    old budget_window;
BEGIN
    LOOP
        SELECT * INTO w FROM budget_window WHERE budget = name AND closed_at IS NULL FOR NO KEY UPDATE;
        EXIT WHEN FOUND;
        -- No window yet, or the one we waited for was closed meanwhile: make it or meet its successor.
        INSERT INTO budget_window (budget, opened_at, opened_by, resets_at)
        VALUES (name, clock_timestamp(), 'use', ledger_month_end(clock_timestamp(), settings->>'timezone'))
        ON CONFLICT (budget) WHERE closed_at IS NULL DO NOTHING;
    END LOOP;
    IF w.resets_at <= clock_timestamp() THEN
        old := w;
        w := ledger_turn_window(old, 'month_end', old.resets_at, settings, NULL);
        turned := jsonb_build_object('closed', ledger_window_json(old) || jsonb_build_object('closed_at', old.resets_at),
                                     'opened', ledger_window_json(w));
    END IF;
END $$;

-- Records the crossings between the recorded state and what spent and the limit now say; each is returned to the one
-- caller whose statement saw it first. A raised limit lowers the recorded state, so crossing again is a new event.
-- entry_id: the entry whose end this is, if it is one.
CREATE FUNCTION ledger_record_state(INOUT w budget_window, cap numeric, settings jsonb, INOUT crossings jsonb,
                                    entry_id uuid DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
    now_state text := ledger_state(w.spent, cap, settings);
    crossed text;
BEGIN
    IF now_state = w.state THEN RETURN; END IF;
    FOREACH crossed IN ARRAY ARRAY['HALF_OPEN', 'OPEN'] LOOP
        -- Alphabetical order happens to be the order of severity: CLOSED < HALF_OPEN < OPEN.
        IF crossed COLLATE "C" > w.state COLLATE "C" AND crossed COLLATE "C" <= now_state COLLATE "C" THEN
            INSERT INTO budget_crossing (window_id, state, crossed_at, spent, limit_usd, entry_id)
            VALUES (w.id, crossed, clock_timestamp(), w.spent, cap, entry_id);
            crossings := COALESCE(crossings, '[]') || jsonb_build_array(jsonb_build_object(
                'state', crossed, 'window_id', w.id, 'budget', w.budget, 'spent', w.spent, 'limit', cap));
        END IF;
    END LOOP;
    UPDATE budget_window SET state = now_state WHERE id = w.id;
    w.state := now_state;
END $$;

-- The day that a settlement in this window is counted on, in the budget's zone: one that comes after the month's end is
-- counted on the window's last day, so that a month's days add up to the month's windows.
CREATE FUNCTION ledger_day(w budget_window, settings jsonb) RETURNS date
LANGUAGE sql VOLATILE AS $$
    SELECT (least(clock_timestamp(), w.resets_at - interval '1 microsecond') AT TIME ZONE (settings->>'timezone'))::date
$$;

-- Adds to a key's window what one of its entries changed, and records what that crosses.
-- tokens: of the entry, beside those of its bound; entered: when the entry was reserved.
CREATE FUNCTION ledger_book_key(window_id bigint, settings jsonb, spends numeric, frees numeric, calls integer,
                                tokens bigint, entered timestamptz, INOUT crossings jsonb, entry_id uuid,
                                OUT kw budget_window)
LANGUAGE plpgsql AS $$
DECLARE
    step record;
BEGIN
    UPDATE budget_window SET
        spent = spent + spends, reserved = reserved - frees, request_count = request_count + calls,
        minute_tokens = minute_tokens + CASE WHEN entered >= minute_at THEN tokens ELSE 0 END
    WHERE id = window_id RETURNING * INTO kw;
    IF kw.closed_at IS NULL THEN
        SELECT * INTO step FROM ledger_record_state(kw, ledger_cap(kw.budget, settings), settings, crossings, entry_id);
        kw := step.w; crossings := step.crossings;
    END IF;
END $$;

-- Settles at their bounds the expired reservations of one locked window; a crash never loses a cent.
CREATE FUNCTION ledger_expire(INOUT w budget_window, settings jsonb, INOUT expired jsonb, INOUT crossings jsonb)
LANGUAGE plpgsql AS $$
DECLARE
    step record;
    e ledger;
    swept numeric := 0;
    calls bigint := 0;
    until timestamptz := clock_timestamp();
BEGIN
    FOR e IN
        UPDATE ledger SET status = 'settled', cost = bound, cost_basis = 'bound', outcome = 'expired',
               ended_at = clock_timestamp(), day = ledger_day(w, settings)
        WHERE window_id = w.id AND status = 'reserved' AND expires_at > w.swept_until AND expires_at <= until
        RETURNING *
    LOOP
        PERFORM ledger_roll_up(e, 1);
        IF e.key_window_id IS NOT NULL THEN
            SELECT * INTO step
            FROM ledger_book_key(e.key_window_id, settings, e.bound, e.bound, 1, 0, e.reserved_at, crossings, NULL);
            crossings := step.crossings;
        END IF;
        swept := swept + e.bound;
        calls := calls + 1;
        expired := COALESCE(expired, '[]') || jsonb_build_array(jsonb_build_object(
            'request_id', e.request_id, 'attempt', e.attempt, 'provider', e.provider, 'model', e.model,
            'tier', e.tier, 'key_id', e.key_id, 'cost', e.cost));
    END LOOP;
    IF calls > 0 OR until > w.swept_until + interval '5 seconds' THEN
        UPDATE budget_window SET spent = spent + swept, reserved = reserved - swept, request_count = request_count + calls,
               swept_until = until
        WHERE id = w.id RETURNING * INTO w;
    END IF;
END $$;

-- The same for every window of the company, the oldest first; the budget API and the reset call it before they lock the
-- open one. A reservation lives a day at most (AI_RESERVATION_TTL_SECONDS), so a window that was swept a day after its
-- end is done. All are locked before the first is swept, the open one too, though a reset may open it while an older one
-- is waited for: sweeping locks keys' windows, which come after them.
CREATE OR REPLACE FUNCTION ledger_expire_all(settings jsonb, INOUT expired jsonb, INOUT crossings jsonb)
LANGUAGE plpgsql AS $$
DECLARE
    step record;
    stale bigint[];
    each_id bigint;
    w budget_window;
BEGIN
    LOOP
        SELECT COALESCE(array_agg(l.id), '{}') INTO stale FROM (
            SELECT id FROM budget_window
            WHERE budget = 'global' AND (closed_at IS NULL OR swept_until <= closed_at + interval '1 day')
            ORDER BY id FOR NO KEY UPDATE) l;
        EXIT WHEN NOT EXISTS (
            SELECT FROM budget_window WHERE budget = 'global' AND closed_at IS NULL AND id <> ALL (stale));
    END LOOP;
    FOREACH each_id IN ARRAY stale LOOP
        SELECT * INTO w FROM budget_window WHERE id = each_id;
        SELECT * INTO step FROM ledger_expire(w, settings, expired, crossings);
        w := step.w; expired := step.expired; crossings := step.crossings;
        IF w.closed_at IS NULL THEN
            SELECT * INTO step FROM ledger_record_state(w, ledger_cap('global', settings), settings, crossings);
            w := step.w; crossings := step.crossings;
        END IF;
    END LOOP;
END $$;

-- The same for the company's closed windows, by a caller who holds the open one: without waiting, since those come first.
CREATE FUNCTION ledger_expire_closed(settings jsonb, INOUT expired jsonb, INOUT crossings jsonb)
LANGUAGE plpgsql AS $$
DECLARE
    step record;
    closed budget_window;
BEGIN
    FOR closed IN
        SELECT * FROM budget_window
        WHERE budget = 'global' AND closed_at IS NOT NULL AND swept_until <= closed_at + interval '1 day'
        ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        SELECT * INTO step FROM ledger_expire(closed, settings, expired, crossings);
        expired := step.expired; crossings := step.crossings;
    END LOOP;
END $$;

-- Ends one reservation, exactly once: settled at cost, settled at its bound, or released.
-- ending: {id, how: actual|bound|release, cost, outcome, input_tokens, ...}. Only an expired entry may be corrected
-- afterwards, by the caller who knows better; anything else that has ended stays as it is: then "repeated" is true, and
-- the crossings are those of its first end.
CREATE FUNCTION ledger_end_entry(ending jsonb, settings jsonb, OUT w budget_window, OUT kw budget_window, OUT e ledger,
                                 OUT crossings jsonb, OUT repeated boolean)
LANGUAGE plpgsql AS $$
DECLARE
    step record;
    was ledger;
    how text := ending->>'how';
    frees numeric;
    spends numeric;
    calls integer;
    tokens bigint;
BEGIN
    repeated := false;
    SELECT * INTO was FROM ledger WHERE id = (ending->>'id')::uuid;
    IF NOT FOUND THEN RETURN; END IF; -- another database than the one it was reserved in; the caller is told: status null
    SELECT * INTO w FROM budget_window WHERE id = was.window_id FOR NO KEY UPDATE;
    IF was.key_window_id IS NOT NULL THEN
        SELECT * INTO kw FROM budget_window WHERE id = was.key_window_id FOR NO KEY UPDATE;
    END IF;
    SELECT * INTO was FROM ledger WHERE id = was.id FOR UPDATE; -- again: the lock may have been waited for
    IF was.status <> 'reserved' AND was.outcome IS DISTINCT FROM 'expired' THEN
        SELECT jsonb_agg(jsonb_build_object(
            'state', c.state, 'window_id', c.window_id, 'budget', b.budget, 'spent', c.spent, 'limit', c.limit_usd)
            ORDER BY c.window_id, c.state)
        INTO crossings FROM budget_crossing c JOIN budget_window b ON b.id = c.window_id
        WHERE c.window_id IN (w.id, kw.id) AND c.entry_id = was.id;
        e := was;
        repeated := true;
        RETURN;
    END IF;
    UPDATE ledger SET
        status = CASE how WHEN 'release' THEN 'released' ELSE 'settled' END,
        cost = CASE how WHEN 'actual' THEN (ending->>'cost')::numeric WHEN 'bound' THEN bound END,
        cost_basis = CASE how WHEN 'release' THEN NULL ELSE how END,
        outcome = ending->>'outcome',
        input_tokens = COALESCE((ending->>'input_tokens')::bigint, 0),
        output_tokens = COALESCE((ending->>'output_tokens')::bigint, 0),
        cached_input_tokens = COALESCE((ending->>'cached_input_tokens')::bigint, 0),
        cache_write_tokens = COALESCE((ending->>'cache_write_tokens')::bigint, 0),
        reasoning_tokens = COALESCE((ending->>'reasoning_tokens')::bigint, 0),
        ended_at = clock_timestamp(),
        day = CASE how WHEN 'release' THEN NULL ELSE ledger_day(w, settings) END
    WHERE id = was.id RETURNING * INTO e;
    IF was.status = 'settled' THEN PERFORM ledger_roll_up(was, -1); END IF;
    IF e.status = 'settled' THEN PERFORM ledger_roll_up(e, 1); END IF;
    spends := COALESCE(e.cost, 0) - COALESCE(was.cost, 0);
    frees := CASE was.status WHEN 'reserved' THEN was.bound ELSE 0 END;
    calls := (e.status = 'settled')::int - (was.status = 'settled')::int;
    UPDATE budget_window SET spent = spent + spends, reserved = reserved - frees, request_count = request_count + calls
    WHERE id = w.id RETURNING * INTO w;
    IF w.closed_at IS NULL THEN
        SELECT * INTO step FROM ledger_record_state(w, ledger_cap('global', settings), settings, crossings, e.id);
        w := step.w; crossings := step.crossings;
    END IF;
    IF kw.id IS NOT NULL THEN
        -- What its bound took of the minute, less what it really was; at its bound it took what was reserved.
        tokens := CASE how WHEN 'actual' THEN e.input_tokens + e.output_tokens WHEN 'release' THEN 0 ELSE e.tokens_bound END
                  - e.tokens_bound;
        SELECT * INTO step FROM ledger_book_key(kw.id, settings, spends, frees, calls, tokens, e.reserved_at, crossings, e.id);
        kw := step.kw; crossings := step.crossings;
    END IF;
END $$;

-- A key's window and what its minute has left, for the caller's headers; NULL without one.
CREATE FUNCTION ledger_key_json(kw budget_window, settings jsonb) RETURNS jsonb
LANGUAGE sql VOLATILE AS $$
    SELECT ledger_budget_json(kw, k.monthly_budget_usd, settings) || jsonb_build_object(
        'requests_per_minute', k.requests_per_minute,
        'requests_left', k.requests_per_minute
            - least(CASE WHEN m.is_over THEN 0 ELSE kw.minute_requests END, k.requests_per_minute),
        'tokens_per_minute', k.tokens_per_minute,
        'tokens_left', k.tokens_per_minute
            - least(CASE WHEN m.is_over THEN 0 ELSE kw.minute_tokens END, k.tokens_per_minute),
        'minute_ends_in', CASE WHEN m.is_over THEN 0
            ELSE ceil(extract(epoch FROM kw.minute_at + interval '1 minute' - clock_timestamp()))::integer END)
    FROM api_key k, (SELECT COALESCE(kw.minute_at <= clock_timestamp() - interval '1 minute', true) AS is_over) m
    WHERE k.id = kw.budget
$$;

-- Ends an attempt for good. p: {settings, ending, health}
CREATE OR REPLACE FUNCTION ledger_end(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    step record;
    settings jsonb := p->'settings';
    w budget_window;
    e ledger;
    crossings jsonb;
    cooled timestamptz;
BEGIN
    SELECT * INTO step FROM ledger_end_entry(p->'ending', settings);
    w := step.w; e := step.e;
    IF NOT step.repeated OR p ? 'resent' THEN crossings := step.crossings; END IF;
    IF p ? 'health' AND NOT step.repeated THEN cooled := ledger_note_health(p->'health', e.reserved_at); END IF;
    IF e.id IS NULL THEN
        RETURN jsonb_build_object('status', NULL, 'cooldown_until', cooled);
    END IF;
    RETURN jsonb_build_object(
        'status', e.status, 'cost', e.cost, 'cost_basis', e.cost_basis, 'crossings', crossings,
        'cooldown_until', cooled, 'budget', ledger_budget_json(w, ledger_cap('global', settings), settings),
        'key', CASE WHEN e.key_window_id IS NOT NULL THEN ledger_key_json(step.kw, settings) END);
END $$;

-- The first candidate that isn't cooling down, and those before it that are.
CREATE FUNCTION ledger_choose(candidates jsonb, operation text, OUT place integer, OUT chosen jsonb, OUT probing boolean,
                              OUT cooling jsonb)
LANGUAGE plpgsql AS $$
DECLARE
    candidate jsonb;
    h provider_health;
BEGIN
    place := -1; cooling := '[]'; probing := false;
    FOR candidate IN SELECT * FROM jsonb_array_elements(candidates) LOOP
        place := place + 1;
        SELECT * INTO h FROM provider_health WHERE provider = candidate->>'provider';
        -- An operator's probe asks even a provider that is cooling down: that is what it is for.
        IF h.cooldown_until > clock_timestamp() AND operation <> 'probe' THEN
            cooling := cooling || jsonb_build_array(jsonb_build_object(
                'candidate', place, 'until', h.cooldown_until, 'kind', h.last_failure_kind));
            CONTINUE;
        END IF;
        chosen := candidate;
        probing := h.cooldown_until IS NOT NULL; -- its cooldown has ended: this caller probes, the others keep off
        RETURN;
    END LOOP;
END $$;

-- Why a call may not be reserved, NULL when it may: {refused, by, ...}; by is 'global' or the key's id.
--   exceeded      nothing changes until the window resets or an operator acts
--   rate_limited  the key's minute is used up, as far as this call is concerned
--   too_large     its worst case is more than the key may use in any minute
--   reserved      it would fit, but calls in flight hold the room
CREATE FUNCTION ledger_refusal(w budget_window, kw budget_window, k api_key, settings jsonb, bound numeric, tokens bigint,
                               is_first boolean) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    cap numeric := (settings->>'limit')::numeric;
    told jsonb;
BEGIN
    -- What costs nothing can't overrun anything: a free local model is never held up by a budget.
    IF bound > 0 THEN
        IF ledger_state(w.spent, cap, settings) = 'OPEN' OR w.spent + bound > cap THEN
            RETURN jsonb_build_object('refused', 'exceeded', 'by', 'global');
        ELSIF ledger_state(kw.spent, k.monthly_budget_usd, settings) = 'OPEN' OR kw.spent + bound > k.monthly_budget_usd THEN
            RETURN jsonb_build_object('refused', 'exceeded', 'by', k.id);
        END IF;
    END IF;
    told := jsonb_build_object('refused', 'rate_limited', 'by', k.id, 'retry_after',
        ceil(extract(epoch FROM kw.minute_at + interval '1 minute' - clock_timestamp()))::integer);
    IF is_first AND kw.minute_requests >= k.requests_per_minute THEN
        RETURN told || jsonb_build_object('limit', 'requests');
    ELSIF tokens > k.tokens_per_minute THEN
        RETURN jsonb_build_object('refused', 'too_large', 'by', k.id, 'tokens', tokens, 'limit', k.tokens_per_minute);
    ELSIF kw.minute_tokens + tokens > k.tokens_per_minute THEN
        RETURN told || jsonb_build_object('limit', 'tokens');
    END IF;
    IF bound > 0 THEN
        IF w.spent + w.reserved + bound > cap THEN
            RETURN jsonb_build_object('refused', 'reserved', 'by', 'global');
        ELSIF kw.spent + kw.reserved + bound > k.monthly_budget_usd THEN
            RETURN jsonb_build_object('refused', 'reserved', 'by', k.id);
        END IF;
    END IF;
    RETURN NULL;
END $$;

-- Audits settings that differ from those of the last environment that started.
CREATE FUNCTION settings_note(current jsonb) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    was jsonb;
BEGIN
    SELECT s.settings INTO was FROM settings_seen s;
    IF was IS NOT DISTINCT FROM current THEN RETURN; END IF;
    INSERT INTO settings_seen (settings, seen_at) VALUES (current, clock_timestamp())
    ON CONFLICT (single) DO UPDATE SET settings = EXCLUDED.settings, seen_at = EXCLUDED.seen_at;
    IF was IS NULL THEN RETURN; END IF; -- the first start changes nothing
    PERFORM audit_append(
        clock_timestamp(), 'system', 'settings.changed', NULL, NULL,
        (SELECT jsonb_object_agg(o.key, o.value) FROM jsonb_each(was) o WHERE current->o.key IS DISTINCT FROM o.value),
        (SELECT jsonb_object_agg(c.key, c.value) FROM jsonb_each(current) c WHERE was->c.key IS DISTINCT FROM c.value));
END $$;

-- Reserves the worst case of the first candidate that isn't cooling down, in the company's budget and in the key's; with
-- "ending", ends the failed attempt before it, in the same transaction. p: {settings, ending?, health?,
-- entry: {id, request_id, attempt, operation, tier, key_id}, candidates: [{provider, model, bound, tokens}],
-- downgrade?: {tier, candidates}, introduce?, probe_seconds}
CREATE OR REPLACE FUNCTION ledger_reserve(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    step record;
    settings jsonb := p->'settings';
    entry jsonb := p->'entry';
    candidates jsonb := p->'candidates';
    tier text := entry->>'tier';
    told jsonb := '{}';
    cap numeric := (p->'settings'->>'limit')::numeric;
    w budget_window;
    kw budget_window;
    k api_key;
    ended ledger;
    noting boolean := false; -- whether "health" is still to be noted
    turned jsonb;
    key_turned jsonb;
    expired jsonb;
    crossings jsonb;
    choice record;
    bound numeric;
    tokens bigint;
    refusal jsonb;
BEGIN
    IF p ? 'ending' THEN
        -- Its window first, which may be older than the open one.
        PERFORM 1 FROM budget_window
        WHERE id = (SELECT window_id FROM ledger WHERE id = (p->'ending'->>'id')::uuid) FOR NO KEY UPDATE;
    END IF;
    SELECT * INTO step FROM ledger_lock_window('global', settings, NULL);
    w := step.w; turned := step.turned;
    IF p ? 'ending' THEN
        SELECT * INTO step FROM ledger_end_entry(p->'ending', settings);
        ended := step.e;
        IF ended.window_id = w.id THEN w := step.w; END IF;
        IF NOT step.repeated OR p ? 'resent' THEN crossings := step.crossings; END IF;
        noting := p ? 'health' AND NOT step.repeated;
        told := told || jsonb_build_object('ended', jsonb_build_object(
            'status', ended.status, 'cost', ended.cost, 'cost_basis', ended.cost_basis));
    END IF;

    IF entry->>'key_id' IS NOT NULL THEN
        SELECT * INTO k FROM api_key WHERE id = entry->>'key_id'; -- none for the bootstrap key, which has no limits
    END IF;
    IF k.id IS NOT NULL THEN
        SELECT * INTO step FROM ledger_lock_window(k.id, settings, NULL);
        kw := step.w; key_turned := step.turned;
    END IF;

    -- Sent twice, because the first answer was lost with its connection: the reservation stands.
    SELECT c.ordinality - 1 AS place, d.downgraded INTO step
    FROM ledger l, (VALUES (false, candidates), (true, p->'downgrade'->'candidates')) d (downgraded, candidates),
         jsonb_array_elements(d.candidates) WITH ORDINALITY c
    WHERE l.id = (entry->>'id')::uuid AND c.value->>'provider' = l.provider AND c.value->>'model' = l.model
          AND (NOT d.downgraded OR l.tier = p->'downgrade'->>'tier')
    ORDER BY d.downgraded DESC LIMIT 1;
    IF FOUND THEN
        RETURN told || jsonb_build_object(
            'candidate', step.place, 'downgraded', step.downgraded, 'turned', turned, 'key_turned', key_turned,
            'crossings', crossings, 'budget', ledger_budget_json(w, cap, settings),
            'key', CASE WHEN k.id IS NOT NULL THEN ledger_key_json(kw, settings) END);
    END IF;

    SELECT * INTO step FROM ledger_expire(w, settings, NULL, crossings);
    w := step.w; expired := step.expired; crossings := step.crossings;
    SELECT * INTO step FROM ledger_record_state(w, cap, settings, crossings);
    w := step.w; crossings := step.crossings;
    IF k.id IS NOT NULL THEN
        SELECT * INTO kw FROM budget_window WHERE id = kw.id; -- expired entries of its own may have been booked
        SELECT * INTO step FROM ledger_record_state(kw, k.monthly_budget_usd, settings, crossings);
        kw := step.w; crossings := step.crossings;
        IF COALESCE(kw.minute_at <= clock_timestamp() - interval '1 minute', true) THEN
            kw.minute_at := clock_timestamp(); kw.minute_requests := 0; kw.minute_tokens := 0;
        END IF;
    END IF;

    IF p ? 'downgrade' AND 'HALF_OPEN' IN (w.state, kw.state) THEN
        candidates := p->'downgrade'->'candidates';
        tier := p->'downgrade'->>'tier';
        told := told || jsonb_build_object('downgraded', true);
    END IF;
    SELECT * INTO choice FROM ledger_choose(candidates, entry->>'operation');
    bound := (choice.chosen->>'bound')::numeric;
    tokens := COALESCE((choice.chosen->>'tokens')::bigint, 0);
    refusal := CASE
        WHEN k.revoked_at IS NOT NULL OR k.expires_at <= clock_timestamp() THEN jsonb_build_object('refused', 'revoked')
        WHEN choice.chosen IS NULL THEN jsonb_build_object('refused', 'cooling_down')
        ELSE ledger_refusal(w, kw, k, settings, bound, tokens, NOT p ? 'ending')
    END;
    IF refusal->>'refused' = 'reserved' AND refusal->>'by' = k.id THEN
        -- By a call that crashed before the company's last reset, perhaps: then it is spent, and waiting is no use.
        SELECT * INTO step FROM ledger_expire_closed(settings, expired, crossings);
        expired := step.expired; crossings := step.crossings;
        SELECT b.spent, b.reserved, b.request_count, b.state
        INTO kw.spent, kw.reserved, kw.request_count, kw.state FROM budget_window b WHERE b.id = kw.id;
        refusal := ledger_refusal(w, kw, k, settings, bound, tokens, NOT p ? 'ending');
    END IF;

    IF refusal IS NULL THEN
        INSERT INTO ledger (id, window_id, key_window_id, request_id, attempt, operation, provider, model, tier, key_id,
                            status, bound, tokens_bound, reserved_at, expires_at)
        VALUES ((entry->>'id')::uuid, w.id, kw.id, entry->>'request_id', (entry->>'attempt')::integer,
                entry->>'operation', choice.chosen->>'provider', choice.chosen->>'model', tier, entry->>'key_id',
                'reserved', bound, tokens, clock_timestamp(), greatest(
                    clock_timestamp() + make_interval(secs => (settings->>'ttl_seconds')::double precision),
                    w.swept_until + interval '1 microsecond')); -- later, even if the server's clock was set back
        IF bound > 0 THEN
            UPDATE budget_window SET reserved = reserved + bound WHERE id = w.id RETURNING * INTO w;
        END IF;
        IF k.id IS NOT NULL THEN
            UPDATE budget_window SET
                reserved = reserved + bound, minute_at = kw.minute_at,
                minute_requests = kw.minute_requests + (NOT p ? 'ending')::int, minute_tokens = kw.minute_tokens + tokens
            WHERE id = kw.id RETURNING * INTO kw;
        END IF;
        told := told || jsonb_build_object('candidate', choice.place, 'probing', choice.probing);
    ELSE
        told := told || refusal || jsonb_build_object('bound', bound);
        choice.probing := false;
    END IF;

    -- Health rows come last and by name (see the lock order above).
    IF noting AND (NOT choice.probing OR p->'health'->>'provider' <= choice.chosen->>'provider') THEN
        told := told || jsonb_build_object('cooldown_until', ledger_note_health(p->'health', ended.reserved_at));
        noting := false;
    END IF;
    IF choice.probing THEN
        UPDATE provider_health
        SET cooldown_until = clock_timestamp() + make_interval(secs => (p->>'probe_seconds')::double precision)
        WHERE provider = choice.chosen->>'provider' AND cooldown_until <= clock_timestamp();
    END IF;
    IF noting THEN
        told := told || jsonb_build_object('cooldown_until', ledger_note_health(p->'health', ended.reserved_at));
    END IF;
    IF p ? 'introduce' THEN PERFORM settings_note(p->'introduce'); END IF;

    RETURN told || jsonb_build_object(
        'cooling', choice.cooling, 'turned', turned, 'key_turned', key_turned, 'expired', expired,
        'crossings', crossings, 'budget', ledger_budget_json(w, cap, settings),
        'key', CASE WHEN k.id IS NOT NULL THEN ledger_key_json(kw, settings) END);
END $$;

-- The open window with its sums by provider and model. p: {settings}
CREATE OR REPLACE FUNCTION ledger_budget(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    step record;
    settings jsonb := p->'settings';
    cap numeric := (p->'settings'->>'limit')::numeric;
    w budget_window;
    turned jsonb;
    expired jsonb;
    crossings jsonb;
BEGIN
    SELECT * INTO step FROM ledger_expire_all(settings, NULL, NULL);
    expired := step.expired; crossings := step.crossings;
    SELECT * INTO step FROM ledger_lock_window('global', settings, NULL);
    w := step.w; turned := step.turned;
    SELECT * INTO step FROM ledger_record_state(w, cap, settings, crossings);
    w := step.w; crossings := step.crossings;
    RETURN jsonb_build_object(
        'budget', ledger_budget_json(w, cap, settings), 'turned', turned, 'expired', expired, 'crossings', crossings,
        'by_provider', (SELECT COALESCE(jsonb_object_agg(provider, cost), '{}') FROM
            (SELECT provider, sum(cost) AS cost FROM usage_rollup WHERE window_id = w.id GROUP BY provider) s),
        'by_model', (SELECT COALESCE(jsonb_object_agg(name, cost), '{}') FROM
            (SELECT provider || '/' || model AS name, sum(cost) AS cost FROM usage_rollup WHERE window_id = w.id
             GROUP BY provider, model) s));
END $$;

-- Closes a budget's open window and opens the next; sent twice under one id, it does so once.
-- p: {settings, id, why: admin|schedule, budget?: a key's id, at, actor, source_ip, request_id, reason}
-- The schedule's run is idempotent: it leaves alone a window that was opened at or after the time it was due (the month's
-- end had been seen by a call already), and one that the schedule itself opened within the minute (delivered twice).
CREATE OR REPLACE FUNCTION ledger_reset(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    step record;
    settings jsonb := p->'settings';
    due timestamptz := COALESCE((p->>'at')::timestamptz, clock_timestamp());
    old budget_window;
    fresh budget_window;
    turned jsonb;
    expired jsonb;
    crossings jsonb;
BEGIN
    SELECT * INTO step FROM ledger_expire_all(settings, NULL, NULL);
    expired := step.expired; crossings := step.crossings;
    SELECT * INTO step FROM ledger_lock_window(COALESCE(p->>'budget', 'global'), settings, NULL);
    old := step.w; turned := step.turned;
    SELECT * INTO fresh FROM budget_window WHERE reset_id = (p->>'id')::uuid;
    IF FOUND THEN
        SELECT * INTO old FROM budget_window WHERE budget = fresh.budget AND id < fresh.id ORDER BY id DESC LIMIT 1;
        RETURN jsonb_build_object('closed', ledger_window_json(old), 'opened', ledger_window_json(fresh), 'turned', turned,
                                  'expired', expired, 'crossings', crossings);
    END IF;
    IF p->>'why' = 'schedule' AND (
        turned IS NOT NULL OR old.opened_at >= due
        OR (old.opened_by = 'schedule' AND old.opened_at > clock_timestamp() - interval '1 minute')
    ) THEN
        RETURN jsonb_build_object('closed', NULL, 'opened', ledger_window_json(old), 'turned', turned,
                                  'expired', expired, 'crossings', crossings);
    END IF;
    fresh := ledger_turn_window(old, p->>'why', clock_timestamp(), settings, p);
    SELECT * INTO old FROM budget_window WHERE id = old.id;
    RETURN jsonb_build_object('closed', ledger_window_json(old), 'opened', ledger_window_json(fresh), 'turned', turned,
                              'expired', expired, 'crossings', crossings);
END $$;

-- The entries from before the chain.
DO $$
DECLARE
    a audit;
    link bytea := '';
    place bigint := 0;
BEGIN
    FOR a IN SELECT * FROM audit ORDER BY id LOOP
        place := place + 1;
        a.n := place;
        link := audit_hash(link, a);
        UPDATE audit SET n = place, hash = link WHERE id = a.id;
    END LOOP;
    UPDATE audit_head SET n = place, hash = link;
END $$;
ALTER TABLE audit ALTER COLUMN n SET NOT NULL, ALTER COLUMN hash SET NOT NULL;

