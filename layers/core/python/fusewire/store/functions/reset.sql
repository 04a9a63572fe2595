-- How a window closes and its successor opens: at the period's end, by the schedule, or by an administrator.

-- Closes a window that the caller has locked, opens its successor and audits both. Returns the new window, locked. An
-- audited limit that was set for the window ends with it, and the next one has the limit for good, if there is one.
-- audit_entry: {id, actor, source_ip, request_id, reason}, NULL for the period's end.
CREATE OR REPLACE FUNCTION ledger_roll_over(old budget_window, opened_by text, at timestamptz, settings jsonb,
                                            audit_entry jsonb)
RETURNS budget_window LANGUAGE plpgsql AS $$
DECLARE
    fresh budget_window;
    next_limit numeric;
    limits_before jsonb := '{}';
    limits_after jsonb := '{}';
BEGIN
    IF old.budget = 'global' THEN
        UPDATE budget_limit l SET ended_at = at WHERE l.ended_at IS NULL AND l.until = 'window';
        SELECT l.amount INTO next_limit FROM budget_limit l WHERE l.ended_at IS NULL AND l.until IS NULL;
        IF old.limit_usd IS NOT NULL OR next_limit IS NOT NULL THEN
            limits_before := jsonb_build_object('audited_limit_usd', old.limit_usd);
            limits_after := jsonb_build_object('audited_limit_usd', next_limit);
        END IF;
    END IF;
    UPDATE budget_window SET closed_at = at WHERE id = old.id RETURNING * INTO old;
    INSERT INTO budget_window (budget, opened_at, opened_by, resets_at, reset_id, rate_window_started_at, rate_requests,
                               rate_tokens, limit_usd)
    VALUES (old.budget, clock_timestamp(), opened_by,
            ledger_period_end(ledger_period_of(old.budget), clock_timestamp(), settings->>'timezone'),
            (audit_entry->>'id')::uuid, old.rate_window_started_at, old.rate_requests, old.rate_tokens,
            next_limit)
    RETURNING * INTO fresh;
    PERFORM audit_append(
        clock_timestamp(), COALESCE(audit_entry->>'actor', 'system'), 'budget.reset', audit_entry->>'source_ip',
        audit_entry->>'request_id', ledger_window_json(old) || limits_before,
        ledger_window_json(fresh) || limits_after || jsonb_build_object('why', opened_by, 'reason', audit_entry->>'reason'));
    RETURN fresh;
END $$;

-- Closes a budget's open window and opens the next. Sent twice under one id, it does so once. "closed" is NULL when
-- there was nothing to do.
-- p: {settings, id, opened_by: admin|schedule, budget?: a key's or a node's id, at?, actor, source_ip?, request_id, reason?}
-- The schedule's run is idempotent. It leaves a window alone that was opened at or after the time at which the run was
-- due (a call had met the period's end already), and one that the schedule itself opened within the minute (it was
-- delivered twice).
CREATE OR REPLACE FUNCTION ledger_reset(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    step record;
    settings jsonb := p->'settings';
    due timestamptz := COALESCE((p->>'at')::timestamptz, clock_timestamp());
    old budget_window;
    fresh budget_window;
    closed jsonb;
    rolled_over jsonb;
    expired jsonb;
    threshold_events jsonb;
BEGIN
    SELECT * INTO step FROM ledger_expire_all(settings, (p->>'id')::uuid, NULL, NULL);
    expired := step.expired; threshold_events := step.threshold_events;
    SELECT * INTO step FROM ledger_lock_window(COALESCE(p->>'budget', 'global'), settings, NULL);
    old := step.w; rolled_over := step.rolled_over;
    IF p ? 'resent' THEN threshold_events := ledger_add_threshold_events((p->>'id')::uuid, NULL); END IF;
    SELECT * INTO fresh FROM budget_window WHERE reset_id = (p->>'id')::uuid;
    IF FOUND THEN
        SELECT * INTO old FROM budget_window WHERE budget = fresh.budget AND id < fresh.id ORDER BY id DESC LIMIT 1;
        closed := ledger_window_json(old);
    ELSIF p->>'opened_by' = 'schedule' AND (
        rolled_over IS NOT NULL OR old.opened_at >= due
        OR (old.opened_by = 'schedule' AND old.opened_at > clock_timestamp() - interval '1 minute')
    ) THEN
        fresh := old;
    ELSE
        fresh := ledger_roll_over(old, p->>'opened_by', clock_timestamp(), settings, p);
        SELECT * INTO old FROM budget_window WHERE id = old.id;
        closed := ledger_window_json(old);
    END IF;
    RETURN jsonb_build_object('closed', closed, 'opened', ledger_window_json(fresh), 'rolled_over', rolled_over,
                              'limit', ledger_limit_in_force(fresh.limit_usd, settings),
                              'expired', expired, 'threshold_events', threshold_events);
END $$;
