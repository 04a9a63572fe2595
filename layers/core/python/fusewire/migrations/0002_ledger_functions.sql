-- The ledger's statements. Each public function is one round trip and one transaction, and waits for no lock longer than
-- its lock_timeout: whoever holds the window's row that long (an operator's forgotten transaction) costs calls a 503 each,
-- not the rest of their Lambda's time.
--
-- PL/pgSQL rather than one large WITH: each inner statement takes a snapshot of its own, so everything that is read
-- after the window's row lock was granted is current. In a single WITH the snapshot is older than the lock.
--
-- Lock order, everywhere: windows by ascending id, then ledger rows, then rollups, then provider_health by name.
-- The open window always has the highest id of its budget, so "older windows first, the open one last" is that order.
--
-- Arguments and results are jsonb objects, so that yesterday's code runs on tomorrow's functions. An argument with "resent"
-- went out before, and its answer was lost: what that one would have told is told again, because nobody heard it.
-- settings: {limit, alert, open, timezone, ttl_seconds}; amounts are JSON numbers and stay NUMERIC throughout.

CREATE FUNCTION ledger_month_end(at timestamptz, tz text) RETURNS timestamptz
LANGUAGE sql STABLE AS $$
    SELECT (date_trunc('month', at AT TIME ZONE tz) + interval '1 month') AT TIME ZONE tz
$$;

CREATE FUNCTION ledger_state(spent numeric, settings jsonb) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN spent >= (settings->>'limit')::numeric * (settings->>'open')::numeric THEN 'OPEN'
        WHEN spent >= (settings->>'limit')::numeric * (settings->>'alert')::numeric THEN 'HALF_OPEN'
        ELSE 'CLOSED'
    END
$$;

CREATE FUNCTION ledger_window_json(w budget_window) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'id', w.id, 'opened_at', w.opened_at, 'opened_by', w.opened_by, 'resets_at', w.resets_at,
        'closed_at', w.closed_at, 'spent', w.spent, 'reserved', w.reserved, 'request_count', w.request_count)
$$;

-- Closes a window that the caller has locked, opens its successor, audits both. Returns the new window, locked.
CREATE FUNCTION ledger_turn_window(old budget_window, why text, at timestamptz, settings jsonb, audit_entry jsonb)
RETURNS budget_window LANGUAGE plpgsql AS $$
DECLARE
    fresh budget_window;
BEGIN
    UPDATE budget_window SET closed_at = at WHERE id = old.id RETURNING * INTO old;
    INSERT INTO budget_window (budget, opened_at, opened_by, resets_at, reset_id)
    VALUES (old.budget, clock_timestamp(), why, ledger_month_end(clock_timestamp(), settings->>'timezone'),
            (audit_entry->>'id')::uuid)
    RETURNING * INTO fresh;
    INSERT INTO audit (at, actor, action, source_ip, request_id, before, after)
    VALUES (clock_timestamp(), COALESCE(audit_entry->>'actor', 'system'), 'budget.reset',
            audit_entry->>'source_ip', audit_entry->>'request_id', ledger_window_json(old),
            ledger_window_json(fresh) || jsonb_build_object('why', why, 'reason', audit_entry->>'reason'));
    RETURN fresh;
END $$;

-- The open window, locked. Opens one at the first use; closes one whose month has ended (then "turned" tells it).
CREATE FUNCTION ledger_lock_window(settings jsonb, INOUT turned jsonb, OUT w budget_window)
LANGUAGE plpgsql AS $$
DECLARE
    old budget_window;
BEGIN
    LOOP
        SELECT * INTO w FROM budget_window WHERE budget = 'global' AND closed_at IS NULL FOR UPDATE;
        EXIT WHEN FOUND;
        -- No window yet, or the one we waited for was closed meanwhile: make it or meet its successor.
        INSERT INTO budget_window (budget, opened_at, opened_by, resets_at)
        VALUES ('global', clock_timestamp(), 'use', ledger_month_end(clock_timestamp(), settings->>'timezone'))
        ON CONFLICT (budget) WHERE closed_at IS NULL DO NOTHING;
    END LOOP;
    IF w.resets_at <= clock_timestamp() THEN
        old := w;
        w := ledger_turn_window(old, 'month_end', old.resets_at, settings, NULL);
        turned := jsonb_build_object('closed', ledger_window_json(old) || jsonb_build_object('closed_at', old.resets_at),
                                     'opened', ledger_window_json(w));
    END IF;
END $$;

-- Adds to the rollup row of an entry: +1 when it is booked, -1 when a booking is taken back.
CREATE FUNCTION ledger_roll_up(e ledger, sign integer) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO usage_rollup AS r
        (window_id, day, provider, model, tier, key_id, cost, requests, input_tokens, output_tokens)
    VALUES (e.window_id, e.day, e.provider, e.model, COALESCE(e.tier, ''), COALESCE(e.key_id, ''),
            sign * e.cost, sign, sign * e.input_tokens, sign * e.output_tokens)
    ON CONFLICT (window_id, day, provider, model, tier, key_id) DO UPDATE SET
        cost = r.cost + EXCLUDED.cost, requests = r.requests + EXCLUDED.requests,
        input_tokens = r.input_tokens + EXCLUDED.input_tokens, output_tokens = r.output_tokens + EXCLUDED.output_tokens
$$;

-- Records the crossings between the recorded state and what spent and the limit now say; each is returned to the one
-- caller whose statement saw it first. A raised limit lowers the recorded state, so crossing again is a new event.
-- entry_id: the entry whose end this is, if it is one.
CREATE FUNCTION ledger_record_state(INOUT w budget_window, settings jsonb, INOUT crossings jsonb,
                                    entry_id uuid DEFAULT NULL)
LANGUAGE plpgsql AS $$
DECLARE
    now_state text := ledger_state(w.spent, settings);
    crossed text;
BEGIN
    IF now_state = w.state THEN RETURN; END IF;
    FOREACH crossed IN ARRAY ARRAY['HALF_OPEN', 'OPEN'] LOOP
        -- Alphabetical order happens to be the order of severity: CLOSED < HALF_OPEN < OPEN.
        IF crossed COLLATE "C" > w.state COLLATE "C" AND crossed COLLATE "C" <= now_state COLLATE "C" THEN
            INSERT INTO budget_crossing (window_id, state, crossed_at, spent, limit_usd, entry_id)
            VALUES (w.id, crossed, clock_timestamp(), w.spent, (settings->>'limit')::numeric, entry_id);
            crossings := COALESCE(crossings, '[]') || jsonb_build_array(jsonb_build_object(
                'state', crossed, 'window_id', w.id, 'spent', w.spent));
        END IF;
    END LOOP;
    UPDATE budget_window SET state = now_state WHERE id = w.id;
    w.state := now_state;
END $$;

-- Settles at their bounds the expired reservations of one locked window; a crash never loses a cent.
CREATE FUNCTION ledger_expire(INOUT w budget_window, settings jsonb, INOUT expired jsonb)
LANGUAGE plpgsql AS $$
DECLARE
    e ledger;
    swept numeric := 0;
    calls bigint := 0;
    until timestamptz := clock_timestamp();
BEGIN
    FOR e IN
        UPDATE ledger SET status = 'settled', cost = bound, cost_basis = 'bound', outcome = 'expired',
               ended_at = clock_timestamp(), day = (clock_timestamp() AT TIME ZONE (settings->>'timezone'))::date
        WHERE window_id = w.id AND status = 'reserved' AND expires_at > w.swept_until AND expires_at <= until
        RETURNING *
    LOOP
        PERFORM ledger_roll_up(e, 1);
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

-- The same for every window, the oldest first; the budget API and the reset call it before they lock the open one.
-- A reservation lives a day at most (AI_RESERVATION_TTL_SECONDS), so a window that was swept a day after its end is done.
CREATE FUNCTION ledger_expire_all(settings jsonb, INOUT expired jsonb, INOUT crossings jsonb)
LANGUAGE plpgsql AS $$
DECLARE
    step record;
    stale bigint;
    w budget_window;
BEGIN
    FOR stale IN
        SELECT id FROM budget_window WHERE closed_at IS NULL OR swept_until <= closed_at + interval '1 day' ORDER BY id
    LOOP
        SELECT * INTO w FROM budget_window WHERE id = stale FOR UPDATE;
        SELECT * INTO step FROM ledger_expire(w, settings, expired);
        w := step.w; expired := step.expired;
        IF w.closed_at IS NULL THEN
            SELECT * INTO step FROM ledger_record_state(w, settings, crossings);
            w := step.w; crossings := step.crossings;
        END IF;
    END LOOP;
END $$;

-- Ends one reservation, exactly once: settled at cost, settled at its bound, or released.
-- ending: {id, how: actual|bound|release, cost, outcome, input_tokens, ...}. Only an expired entry may be corrected
-- afterwards, by the caller who knows better; anything else that has ended stays as it is: then "repeated" is true, and
-- the crossings are those of its first end.
CREATE FUNCTION ledger_end_entry(ending jsonb, settings jsonb, OUT w budget_window, OUT e ledger, OUT crossings jsonb,
                                 OUT repeated boolean)
LANGUAGE plpgsql AS $$
DECLARE
    step record;
    was ledger;
    how text := ending->>'how';
BEGIN
    repeated := false;
    SELECT * INTO was FROM ledger WHERE id = (ending->>'id')::uuid;
    IF NOT FOUND THEN RETURN; END IF; -- another database than the one it was reserved in; the caller is told: status null
    SELECT * INTO w FROM budget_window WHERE id = was.window_id FOR UPDATE;
    SELECT * INTO was FROM ledger WHERE id = was.id FOR UPDATE; -- again: the lock may have been waited for
    IF was.status <> 'reserved' AND was.outcome IS DISTINCT FROM 'expired' THEN
        SELECT jsonb_agg(jsonb_build_object('state', c.state, 'window_id', c.window_id, 'spent', c.spent) ORDER BY c.state)
        INTO crossings FROM budget_crossing c WHERE c.window_id = w.id AND c.entry_id = was.id;
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
        day = CASE how WHEN 'release' THEN NULL
              ELSE (clock_timestamp() AT TIME ZONE (settings->>'timezone'))::date END
    WHERE id = was.id RETURNING * INTO e;
    IF was.status = 'settled' THEN PERFORM ledger_roll_up(was, -1); END IF;
    IF e.status = 'settled' THEN PERFORM ledger_roll_up(e, 1); END IF;
    UPDATE budget_window SET
        spent = spent + COALESCE(e.cost, 0) - COALESCE(was.cost, 0),
        reserved = reserved - CASE was.status WHEN 'reserved' THEN was.bound ELSE 0 END,
        request_count = request_count + (e.status = 'settled')::int - (was.status = 'settled')::int
    WHERE id = w.id RETURNING * INTO w;
    IF w.closed_at IS NULL THEN
        SELECT * INTO step FROM ledger_record_state(w, settings, crossings, e.id);
        w := step.w; crossings := step.crossings;
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

CREATE FUNCTION ledger_budget_json(w budget_window, settings jsonb) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT ledger_window_json(w) || jsonb_build_object('state', ledger_state(w.spent, settings))
$$;

-- Ends an attempt for good. p: {settings, ending, health}
CREATE FUNCTION ledger_end(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    step record;
    w budget_window;
    e ledger;
    crossings jsonb;
    cooled timestamptz;
BEGIN
    SELECT * INTO step FROM ledger_end_entry(p->'ending', p->'settings');
    w := step.w; e := step.e;
    IF NOT step.repeated OR p ? 'resent' THEN crossings := step.crossings; END IF;
    IF p ? 'health' AND NOT step.repeated THEN cooled := ledger_note_health(p->'health', e.reserved_at); END IF;
    IF e.id IS NULL THEN
        RETURN jsonb_build_object('status', NULL, 'cooldown_until', cooled);
    END IF;
    RETURN jsonb_build_object(
        'status', e.status, 'cost', e.cost, 'cost_basis', e.cost_basis, 'crossings', crossings,
        'cooldown_until', cooled, 'budget', ledger_budget_json(w, p->'settings'));
END $$;

-- Reserves the worst case of the first candidate that isn't cooling down; with "ending", ends the failed attempt before
-- it, in the same transaction. p: {settings, ending?, health?, entry: {id, request_id, attempt, operation, tier, key_id},
-- candidates: [{provider, model, bound}], probe_seconds}
CREATE FUNCTION ledger_reserve(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    step record;
    settings jsonb := p->'settings';
    entry jsonb := p->'entry';
    told jsonb := '{}';
    w budget_window;
    ended ledger;
    noting boolean := false; -- whether "health" is still to be noted
    turned jsonb;
    expired jsonb;
    crossings jsonb;
    h provider_health;
    candidate jsonb;
    chosen jsonb;
    place integer;
    cooling jsonb := '[]';
    bound numeric;
    probing boolean := false;
    refused text;
BEGIN
    IF p ? 'ending' THEN
        SELECT * INTO step FROM ledger_end_entry(p->'ending', settings);
        ended := step.e;
        IF NOT step.repeated OR p ? 'resent' THEN crossings := step.crossings; END IF;
        noting := p ? 'health' AND NOT step.repeated;
        told := told || jsonb_build_object('ended', jsonb_build_object(
            'status', ended.status, 'cost', ended.cost, 'cost_basis', ended.cost_basis));
    END IF;
    SELECT * INTO step FROM ledger_lock_window(settings, NULL);
    w := step.w; turned := step.turned;

    -- Sent twice, because the first answer was lost with its connection: the reservation stands.
    SELECT c.ordinality - 1 INTO place
    FROM ledger l, jsonb_array_elements(p->'candidates') WITH ORDINALITY c
    WHERE l.id = (entry->>'id')::uuid AND c.value->>'provider' = l.provider AND c.value->>'model' = l.model
    LIMIT 1;
    IF FOUND THEN
        RETURN told || jsonb_build_object('candidate', place, 'turned', turned, 'crossings', crossings,
                                          'budget', ledger_budget_json(w, settings));
    END IF;
    place := -1;

    SELECT * INTO step FROM ledger_expire(w, settings, NULL);
    w := step.w; expired := step.expired;
    SELECT * INTO step FROM ledger_record_state(w, settings, crossings);
    w := step.w; crossings := step.crossings;

    FOR candidate IN SELECT * FROM jsonb_array_elements(p->'candidates') LOOP
        place := place + 1;
        SELECT * INTO h FROM provider_health WHERE provider = candidate->>'provider';
        -- An operator's probe asks even a provider that is cooling down: that is what it is for.
        IF h.cooldown_until > clock_timestamp() AND entry->>'operation' <> 'probe' THEN
            cooling := cooling || jsonb_build_array(jsonb_build_object(
                'candidate', place, 'until', h.cooldown_until, 'kind', h.last_failure_kind));
            CONTINUE;
        END IF;
        chosen := candidate;
        probing := h.cooldown_until IS NOT NULL; -- its cooldown has ended: this caller probes, the others keep off
        EXIT;
    END LOOP;

    IF chosen IS NULL THEN
        refused := 'cooling_down';
    ELSE
        bound := (chosen->>'bound')::numeric;
        -- What costs nothing can't overrun anything: a free local model is never held up by the budget.
        IF bound > 0 THEN
            IF ledger_state(w.spent, settings) = 'OPEN' OR w.spent + bound > (settings->>'limit')::numeric THEN
                refused := 'exceeded';
            ELSIF w.spent + w.reserved + bound > (settings->>'limit')::numeric THEN
                refused := 'reserved';
            END IF;
        END IF;
    END IF;

    IF refused IS NULL THEN
        INSERT INTO ledger (id, window_id, request_id, attempt, operation, provider, model, tier, key_id, status, bound,
                            reserved_at, expires_at)
        VALUES ((entry->>'id')::uuid, w.id, entry->>'request_id', (entry->>'attempt')::integer, entry->>'operation',
                chosen->>'provider', chosen->>'model', entry->>'tier', entry->>'key_id', 'reserved', bound,
                clock_timestamp(), greatest(
                    clock_timestamp() + make_interval(secs => (settings->>'ttl_seconds')::double precision),
                    w.swept_until + interval '1 microsecond')); -- later, even if the server's clock was set back
        IF bound > 0 THEN
            UPDATE budget_window SET reserved = reserved + bound WHERE id = w.id RETURNING * INTO w;
        END IF;
        told := told || jsonb_build_object('candidate', place, 'probing', probing);
    ELSE
        told := told || jsonb_build_object('refused', refused, 'bound', bound);
        probing := false;
    END IF;

    -- Health rows come last and by name (see the lock order above).
    IF noting AND (NOT probing OR p->'health'->>'provider' <= chosen->>'provider') THEN
        told := told || jsonb_build_object('cooldown_until', ledger_note_health(p->'health', ended.reserved_at));
        noting := false;
    END IF;
    IF probing THEN
        UPDATE provider_health
        SET cooldown_until = clock_timestamp() + make_interval(secs => (p->>'probe_seconds')::double precision)
        WHERE provider = chosen->>'provider' AND cooldown_until <= clock_timestamp();
    END IF;
    IF noting THEN
        told := told || jsonb_build_object('cooldown_until', ledger_note_health(p->'health', ended.reserved_at));
    END IF;

    RETURN told || jsonb_build_object(
        'cooling', cooling, 'turned', turned, 'expired', expired, 'crossings', crossings,
        'budget', ledger_budget_json(w, settings));
END $$;

-- The open window with its sums by provider and model. p: {settings}
CREATE FUNCTION ledger_budget(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    step record;
    settings jsonb := p->'settings';
    w budget_window;
    turned jsonb;
    expired jsonb;
    crossings jsonb;
BEGIN
    SELECT * INTO step FROM ledger_expire_all(settings, NULL, NULL);
    expired := step.expired; crossings := step.crossings;
    SELECT * INTO step FROM ledger_lock_window(settings, NULL);
    w := step.w; turned := step.turned;
    SELECT * INTO step FROM ledger_record_state(w, settings, crossings);
    w := step.w; crossings := step.crossings;
    RETURN jsonb_build_object(
        'budget', ledger_budget_json(w, settings), 'turned', turned, 'expired', expired, 'crossings', crossings,
        'by_provider', (SELECT COALESCE(jsonb_object_agg(provider, cost), '{}') FROM
            (SELECT provider, sum(cost) AS cost FROM usage_rollup WHERE window_id = w.id GROUP BY provider) s),
        'by_model', (SELECT COALESCE(jsonb_object_agg(name, cost), '{}') FROM
            (SELECT provider || '/' || model AS name, sum(cost) AS cost FROM usage_rollup WHERE window_id = w.id
             GROUP BY provider, model) s));
END $$;

-- Closes the open window and opens the next; sent twice under one id, it does so once.
-- p: {settings, id, why: admin|schedule, at, actor, source_ip, request_id, reason}
-- The schedule's run is idempotent: it leaves alone a window that was opened at or after the time it was due (the month's
-- end had been seen by a call already), and one that the schedule itself opened within the minute (delivered twice).
CREATE FUNCTION ledger_reset(p jsonb) RETURNS jsonb
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
    SELECT * INTO step FROM ledger_lock_window(settings, NULL);
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

-- What every environment has noted of the providers, by name.
CREATE FUNCTION provider_health_json(p jsonb) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT COALESCE(jsonb_object_agg(h.provider, to_jsonb(h) - 'provider'), '{}') FROM provider_health h
$$;

-- For the health route: reachable, and migrated this far.
CREATE FUNCTION ledger_ping(p jsonb) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object('migration', (SELECT max(name) FROM schema_migration))
$$;
