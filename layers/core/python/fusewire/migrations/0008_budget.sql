-- The budget as its API tells it, its reset, and what the health and providers routes ask.

-- What a forecast is made of: today in the budget's zone, the first day with spend, and the last 28 days' and today's
-- sums. key: whose; NULL for the company.
CREATE FUNCTION usage_days(key text, tz text) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
DECLARE
    today date := (clock_timestamp() AT TIME ZONE tz)::date;
    since date;
    sums jsonb;
BEGIN
    IF key IS NULL THEN
        SELECT min(day) INTO since FROM usage_rollup;
        SELECT jsonb_object_agg(d.day, d.cost) INTO sums FROM (
            SELECT day, sum(cost) AS cost FROM usage_rollup WHERE day >= today - 28 GROUP BY day) d;
    ELSE
        SELECT min(day) INTO since FROM usage_rollup WHERE key_id = key;
        SELECT jsonb_object_agg(d.day, d.cost) INTO sums FROM (
            SELECT day, sum(cost) AS cost FROM usage_rollup WHERE key_id = key AND day >= today - 28 GROUP BY day) d;
    END IF;
    RETURN jsonb_build_object('today', today, 'since', since, 'days', COALESCE(sums, '{}'));
END $$;

-- The open window with its sums by provider and model, and by day for the forecast. p: {settings, id}
CREATE FUNCTION ledger_budget(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    step record;
    settings jsonb := p->'settings';
    cap numeric := (p->'settings'->>'limit')::numeric;
    w budget_window;
    turned jsonb;
    expired jsonb;
    crossings jsonb;
    sweep_id uuid := (p->>'id')::uuid;
BEGIN
    SELECT * INTO step FROM ledger_expire_all(settings, sweep_id, NULL, NULL);
    expired := step.expired; crossings := step.crossings;
    SELECT * INTO step FROM ledger_lock_window('global', settings, NULL);
    w := step.w; turned := step.turned;
    SELECT * INTO step FROM ledger_record_state(w, cap, settings, crossings, NULL, sweep_id);
    w := step.w; crossings := step.crossings;
    IF p ? 'resent' THEN crossings := ledger_swept(sweep_id, NULL); END IF;
    RETURN jsonb_build_object(
        'budget', ledger_budget_json(w, cap, settings), 'turned', turned, 'expired', expired, 'crossings', crossings,
        'by_provider', (SELECT COALESCE(jsonb_object_agg(provider, cost), '{}') FROM
            (SELECT provider, sum(cost) AS cost FROM usage_rollup WHERE window_id = w.id GROUP BY provider) s),
        'by_model', (SELECT COALESCE(jsonb_object_agg(name, cost), '{}') FROM
            (SELECT provider || '/' || model AS name, sum(cost) AS cost FROM usage_rollup WHERE window_id = w.id
             GROUP BY provider, model) s),
        'days', usage_days(NULL, settings->>'timezone'));
END $$;

-- Closes a budget's open window and opens the next; sent twice under one id, it does so once.
-- p: {settings, id, why: admin|schedule, budget?: a key's id, at, actor, source_ip, request_id, reason}
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
    SELECT * INTO step FROM ledger_expire_all(settings, (p->>'id')::uuid, NULL, NULL);
    expired := step.expired; crossings := step.crossings;
    SELECT * INTO step FROM ledger_lock_window(COALESCE(p->>'budget', 'global'), settings, NULL);
    old := step.w; turned := step.turned;
    IF p ? 'resent' THEN crossings := ledger_swept((p->>'id')::uuid, NULL); END IF;
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

-- For the health route: reachable, and migrated.
CREATE FUNCTION ledger_ping(p jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT '{}'::jsonb
$$;
