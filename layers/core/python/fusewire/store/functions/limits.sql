-- The limit of the company's budget: the setting, or the audited limit that stands in its place.
--
-- An audited limit for a window ends with it. One for good stays until it is replaced or taken back; while another
-- stands for the window, it waits, and is in force again in the next one. Either is in budget_window.limit_usd of the
-- open window, so no statement reads more to know it, and whoever holds the window's lock knows what is in force. Who
-- changes it holds that lock and reclaims the slots: a slot that was allocated under another limit serves nobody.

-- The limit in force, in USD. audited: the window's limit_usd. The deploy's maximum is one for audited limits alone: a
-- setting above it stops the start.
CREATE OR REPLACE FUNCTION ledger_limit_in_force(audited numeric, settings jsonb) RETURNS numeric
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN audited IS NULL THEN (settings->>'limit')::numeric
           ELSE least(audited, (settings->>'max_limit')::numeric) END
$$;

CREATE OR REPLACE FUNCTION budget_limit_json(l budget_limit) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT to_jsonb(l)
$$;

-- The limit in force with the setting and the audited limit that it comes from, and what the next window will have.
CREATE OR REPLACE FUNCTION ledger_limits_json(w budget_window, settings jsonb) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'in_force', ledger_limit_in_force(w.limit_usd, settings), 'setting', settings->'limit',
        'maximum', settings->'max_limit',
        'audited', (SELECT budget_limit_json(l) FROM budget_limit l
                    WHERE l.ended_at IS NULL ORDER BY l.until NULLS LAST LIMIT 1),
        'next_window', ledger_limit_in_force(
            (SELECT l.amount FROM budget_limit l WHERE l.ended_at IS NULL AND l.until IS NULL), settings))
$$;

-- Sets the company's limit for the open window or for good, or takes back what was set: then the setting is in force.
-- Sent twice under one id, it does so once. What is spent and reserved stays. A state that the limit raises is a
-- threshold event, and one that it lowers may be crossed again.
-- p: {settings, id, amount, until, reason, audit_context}; amount NULL: take back
CREATE OR REPLACE FUNCTION ledger_set_limit(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    step record;
    settings jsonb := p->'settings';
    limit_id uuid := (p->>'id')::uuid;
    ends text := p->>'until';
    w budget_window;
    before jsonb;
    rolled_over jsonb;
    threshold_events jsonb;
    written jsonb;
BEGIN
    SELECT * INTO step FROM ledger_lock_window('global', settings, NULL);
    w := step.w; rolled_over := step.rolled_over;
    IF EXISTS (SELECT FROM budget_limit l WHERE l.id = limit_id) THEN
        threshold_events := ledger_add_threshold_events(limit_id, NULL);
    ELSE
        before := ledger_limits_json(w, settings);
        UPDATE budget_limit l SET ended_at = clock_timestamp()
        WHERE l.ended_at IS NULL AND (ends IS NULL OR l.until = 'window');
        INSERT INTO budget_limit (id, window_id, set_at, amount, until, reason, actor, request_id, ended_at)
        VALUES (limit_id, w.id, clock_timestamp(), (p->>'amount')::numeric, ends, p->>'reason',
                p->'audit_context'->>'actor', p->'audit_context'->>'request_id',
                CASE WHEN p->>'amount' IS NULL THEN clock_timestamp() END);
        UPDATE budget_window SET limit_usd = (p->>'amount')::numeric WHERE id = w.id RETURNING * INTO w;
        SELECT * INTO step FROM ledger_record_state(
            w, ledger_limit_in_force(w.limit_usd, settings), settings, NULL, NULL, limit_id);
        w := step.w; threshold_events := step.threshold_events;
        written := audit_write(p, 'budget.limit_changed', before,
                               ledger_limits_json(w, settings) || jsonb_build_object('reason', p->>'reason'));
    END IF;
    RETURN jsonb_build_object(
        'budget', ledger_budget_json(w, ledger_limit_in_force(w.limit_usd, settings), settings),
        'limits', ledger_limits_json(w, settings), 'written', written, 'rolled_over', rolled_over,
        'threshold_events', threshold_events);
END $$;
