-- How a reservation ends, exactly once: settled at its cost or at its bound, released, or expired; and what an attempt's end
-- says of its provider.

-- Adds to the rollup row of an entry: +1 when it is booked, -1 when a booking is taken back.
CREATE FUNCTION ledger_roll_up(e ledger, sign integer, in_slot smallint DEFAULT 0::smallint) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO usage_rollup AS r
        (window_id, day, provider, model, tier, key_id, slot, cost, requests, input_tokens, output_tokens)
    VALUES (e.window_id, e.day, e.provider, e.model, COALESCE(e.tier, ''), COALESCE(e.key_id, ''), in_slot,
            sign * e.cost, sign, sign * e.input_tokens, sign * e.output_tokens)
    ON CONFLICT (window_id, day, provider, model, tier, key_id, slot) DO UPDATE SET
        cost = r.cost + EXCLUDED.cost, requests = r.requests + EXCLUDED.requests,
        input_tokens = r.input_tokens + EXCLUDED.input_tokens, output_tokens = r.output_tokens + EXCLUDED.output_tokens
$$;

-- Settles at their bounds the expired reservations of one locked window; a crash never loses a cent.
-- sweep_id: of the statement, here and below.
CREATE FUNCTION ledger_expire(INOUT w budget_window, settings jsonb, sweep_id uuid, INOUT expired jsonb,
                              INOUT crossings jsonb)
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
            FROM ledger_book_key(e.key_window_id, settings, e.bound, e.bound, 1, 0, e.reserved_at, crossings, NULL,
                                 sweep_id);
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

-- The same for every window, the oldest first; the budget API and the reset call it before they lock the open one. A
-- reservation lives a day at most (AI_RESERVATION_TTL_SECONDS), so a window that was swept a day after its end is done. All
-- are locked, and their slots gathered, before the first is swept, the open one too, though a reset may open it while an
-- older one is waited for: sweeping locks keys' windows, which come after them.
CREATE FUNCTION ledger_expire_all(settings jsonb, sweep_id uuid, INOUT expired jsonb, INOUT crossings jsonb)
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
    PERFORM ledger_gather(b) FROM budget_window b WHERE b.id = ANY (stale);
    FOREACH each_id IN ARRAY stale LOOP
        SELECT * INTO w FROM budget_window WHERE id = each_id;
        SELECT * INTO step FROM ledger_expire(w, settings, sweep_id, expired, crossings);
        w := step.w; expired := step.expired; crossings := step.crossings;
        IF w.closed_at IS NULL THEN
            SELECT * INTO step
            FROM ledger_record_state(w, ledger_cap('global', settings), settings, crossings, NULL, sweep_id);
            w := step.w; crossings := step.crossings;
        END IF;
    END LOOP;
END $$;

-- The same for the company's closed windows, by a caller who holds the open one: without waiting, since those come first.
CREATE FUNCTION ledger_expire_closed(settings jsonb, sweep_id uuid, INOUT expired jsonb, INOUT crossings jsonb)
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
        SELECT * INTO step FROM ledger_expire(closed, settings, sweep_id, expired, crossings);
        expired := step.expired; crossings := step.crossings;
    END LOOP;
END $$;

-- Ends an entry's own row; its sums are the caller's to book.
CREATE FUNCTION ledger_end_row(was ledger, ending jsonb, w budget_window, settings jsonb) RETURNS ledger
LANGUAGE plpgsql AS $$
DECLARE
    e ledger;
    how text := ending->>'how';
BEGIN
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
    RETURN e;
END $$;

-- What an ended entry's bound took of its key's minute beyond what it really was, as a negative number; at its bound it
-- took what was reserved.
CREATE FUNCTION ledger_spare_tokens(e ledger) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN e.status = 'released' THEN 0 WHEN e.cost_basis = 'actual' THEN e.input_tokens + e.output_tokens
           ELSE e.tokens_bound END - e.tokens_bound
$$;

-- Ends one reservation, exactly once: settled at cost, settled at its bound, or released.
-- ending: {id, how: actual|bound|release, cost, outcome, input_tokens, ...}. Only an expired entry may be corrected
-- afterwards, by the caller who knows better; anything else that has ended stays as it is: then "repeated" is true, and
-- the crossings are those of its first end.
CREATE FUNCTION ledger_end_entry(ending jsonb, settings jsonb, OUT w budget_window, OUT kw budget_window,
                          OUT e ledger, OUT crossings jsonb, OUT repeated boolean)
LANGUAGE plpgsql AS $$
DECLARE
    step record;
    was ledger;
    frees numeric;
    spends numeric;
    calls integer;
BEGIN
    repeated := false;
    SELECT * INTO was FROM ledger WHERE id = (ending->>'id')::uuid;
    IF NOT FOUND THEN RETURN; END IF; -- another database than the one it was reserved in; the caller is told: status null
    SELECT * INTO w FROM budget_window WHERE id = was.window_id FOR NO KEY UPDATE;
    -- Whatever ends at no more than its bound leaves the room that was granted to slots as it is.
    IF (ending->>'cost')::numeric > was.bound OR EXISTS (
        SELECT FROM budget_slot s WHERE s.window_id = w.id AND s.granted > 0
        AND s.ceiling <> (settings->>'limit')::numeric * (settings->>'alert')::numeric
    ) THEN
        w := ledger_gather(w);
    END IF;
    IF was.key_window_id IS NOT NULL THEN
        SELECT * INTO kw FROM budget_window WHERE id = was.key_window_id FOR NO KEY UPDATE;
    END IF;
    SELECT * INTO was FROM ledger WHERE id = was.id FOR UPDATE; -- again: the lock may have been waited for
    IF was.status <> 'reserved' AND was.outcome IS DISTINCT FROM 'expired' THEN
        SELECT jsonb_agg(ledger_crossing_json(c) ORDER BY c.window_id, c.state)
        INTO crossings FROM budget_crossing c
        WHERE c.window_id IN (w.id, kw.id) AND c.entry_id = was.id;
        e := was;
        repeated := true;
        RETURN;
    END IF;
    e := ledger_end_row(was, ending, w, settings);
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
        SELECT * INTO step FROM ledger_book_key(kw.id, settings, spends, frees, calls, ledger_spare_tokens(e), e.reserved_at,
                                            crossings, e.id);
        kw := step.kw; crossings := step.crossings;
    END IF;
END $$;

-- What an attempt's end says of its provider; began: when the attempt was reserved.
-- health: {provider, verdict: ok|note|count|now, seconds, threshold, max_seconds, kind, message}
--   ok     the provider answered: failures and cooldown are forgotten
--   note   a failure worth showing that doesn't count (a model's name that isn't known there)
--   count  one more failure in a row; from the threshold on each opens a cooldown that doubles, up to max_seconds
--   now    cool down at once (it said when to come back, or rejected the credential)
-- An attempt that began before the last cooldown opened is no news: of 32 calls in flight when a provider fails, one
-- opens the cooldown, the others neither double it nor, should they still succeed, end it.
-- Returns the end of the cooldown that this very failure opened, if it did.
CREATE FUNCTION ledger_note_health(health jsonb, began timestamptz) RETURNS timestamptz
LANGUAGE plpgsql AS $$
DECLARE
    h provider_health;
    seconds double precision := (health->>'seconds')::double precision;
    threshold integer := (health->>'threshold')::integer;
    stale boolean;
    until timestamptz;
BEGIN
    SELECT * INTO h FROM provider_health WHERE provider = health->>'provider';
    IF health->>'verdict' = 'ok' AND h.last_success_at > clock_timestamp() - interval '5 seconds' AND (
        (h.consecutive_failures = 0 AND h.cooldown_until IS NULL) OR began < h.cooled_at
    ) THEN
        RETURN NULL; -- most successes change nothing worth a lock: the time of the last one is kept to within 5 s
    END IF;
    IF h.provider IS NULL THEN
        INSERT INTO provider_health (provider) VALUES (health->>'provider') ON CONFLICT (provider) DO NOTHING;
    END IF;
    SELECT * INTO h FROM provider_health WHERE provider = health->>'provider' FOR UPDATE;
    stale := COALESCE(began < h.cooled_at, false);
    IF health->>'verdict' = 'ok' THEN
        UPDATE provider_health SET
            last_success_at = clock_timestamp(),
            consecutive_failures = CASE WHEN stale THEN consecutive_failures ELSE 0 END,
            cooldown_until = CASE WHEN stale THEN cooldown_until END
        WHERE provider = h.provider;
        RETURN NULL;
    END IF;
    UPDATE provider_health SET
        consecutive_failures = consecutive_failures + (health->>'verdict' <> 'note' AND NOT stale)::int,
        last_failure_at = clock_timestamp(), last_failure_kind = health->>'kind',
        last_failure_message = health->>'message'
    WHERE provider = h.provider RETURNING * INTO h;
    IF health->>'verdict' = 'note' THEN RETURN NULL; END IF;
    IF health->>'verdict' = 'count' THEN
        IF stale OR h.consecutive_failures < threshold THEN RETURN NULL; END IF;
        seconds := least(seconds * 2.0 ^ least(h.consecutive_failures - threshold, 20),
                         (health->>'max_seconds')::double precision);
    END IF;
    until := clock_timestamp() + make_interval(secs => seconds);
    IF stale AND h.cooldown_until >= until THEN RETURN NULL; END IF;
    UPDATE provider_health SET cooldown_until = until, cooled_at = clock_timestamp() WHERE provider = h.provider;
    RETURN until;
END $$;

-- Ends an attempt for good, under its window's lock. p: {settings, ending, health}
CREATE FUNCTION ledger_end_on_row(p jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
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
    IF p ? 'resent' AND p->'ending'->>'outcome' = 'not_sent' THEN
        crossings := ledger_swept((p->'ending'->>'id')::uuid, crossings); -- nobody heard its reservation's answer
    END IF;
    IF p ? 'health' AND NOT step.repeated THEN cooled := ledger_note_health(p->'health', e.reserved_at); END IF;
    IF e.id IS NULL THEN
        RETURN jsonb_build_object('status', NULL, 'crossings', crossings, 'cooldown_until', cooled);
    END IF;
    RETURN jsonb_build_object(
        'status', e.status, 'cost', e.cost, 'cost_basis', e.cost_basis, 'crossings', crossings,
        'cooldown_until', cooled, 'budget', ledger_open_json(w, settings),
        'key', CASE WHEN e.key_window_id IS NOT NULL THEN ledger_key_json(step.kw, settings) END);
END $$;
