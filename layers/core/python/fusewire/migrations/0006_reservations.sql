-- No call without a reservation: the first provider that isn't cooling down, its worst case in both budgets, and the end of
-- the failed attempt before it.

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
CREATE FUNCTION ledger_reserve_on_row(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    step record;
    settings jsonb := p->'settings';
    entry jsonb := p->'entry';
    sweep_id uuid := (p->'entry'->>'id')::uuid;
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

    IF p ? 'resent' THEN crossings := ledger_swept(sweep_id, crossings); END IF;

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

    SELECT * INTO step FROM ledger_expire(w, settings, sweep_id, NULL, crossings);
    w := step.w; expired := step.expired; crossings := step.crossings;
    SELECT * INTO step FROM ledger_record_state(w, cap, settings, crossings, NULL, sweep_id);
    w := step.w; crossings := step.crossings;
    IF k.id IS NOT NULL THEN
        SELECT * INTO kw FROM budget_window WHERE id = kw.id; -- expired entries of its own may have been booked
        SELECT * INTO step FROM ledger_record_state(kw, k.monthly_budget_usd, settings, crossings, NULL, sweep_id);
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
        SELECT * INTO step FROM ledger_expire_closed(settings, sweep_id, expired, crossings);
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
