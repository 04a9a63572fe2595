-- Audited adjustments: what a restore lost of the books, or what a vendor's invoice says beside them.
--
-- An adjustment is an entry of the ledger that is settled at once, under the provider and model 'adjustment', which no
-- provider is called. So it is in the window's sum, in the usage and in the forecast's spent, like any other entry. It
-- is no request. It belongs to the company's window alone: no key's window has a part in it.

CREATE OR REPLACE FUNCTION ledger_adjustment_json(a budget_adjustment) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT to_jsonb(a)
$$;

-- Books an amount, positive or negative, in the company's open window or in the one that is named. Sent twice under one
-- id, it books once. Threshold events are recorded as a settlement's are, in an open window.
-- p: {settings, id, amount, reason, window_id?, audit_context}
-- "refused" is no_window (the company has no such window), archived (its entries are in a file), or below_zero (what is
-- spent of it is less than what would be taken back).
CREATE OR REPLACE FUNCTION ledger_adjust(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    step record;
    settings jsonb := p->'settings';
    entry_id uuid := (p->>'id')::uuid;
    amount numeric := (p->>'amount')::numeric;
    w budget_window;
    before jsonb;
    rolled_over jsonb;
    threshold_events jsonb;
    made budget_adjustment;
    e ledger;
BEGIN
    IF p->>'window_id' IS NULL THEN
        SELECT * INTO step FROM ledger_lock_window('global', settings, NULL);
        w := step.w; rolled_over := step.rolled_over;
    ELSE
        SELECT * INTO w FROM budget_window WHERE id = (p->>'window_id')::bigint AND budget = 'global'
        FOR NO KEY UPDATE;
        IF NOT FOUND THEN RETURN jsonb_build_object('refused', 'no_window'); END IF;
        w := ledger_reclaim_slots(w);
    END IF;
    SELECT * INTO made FROM budget_adjustment a WHERE a.id = entry_id;
    IF FOUND THEN
        SELECT * INTO w FROM budget_window WHERE id = made.window_id;
        threshold_events := ledger_add_threshold_events(entry_id, NULL);
    ELSIF w.archived_at IS NOT NULL THEN
        RETURN jsonb_build_object('refused', 'archived', 'window', ledger_window_json(w));
    ELSIF w.spent + amount < 0 THEN
        RETURN jsonb_build_object('refused', 'below_zero', 'window', ledger_window_json(w), 'rolled_over', rolled_over);
    ELSE
        before := ledger_window_json(w);
        INSERT INTO budget_adjustment (id, window_id, at, amount, reason, actor, request_id)
        VALUES (entry_id, w.id, clock_timestamp(), amount, p->>'reason', p->'audit_context'->>'actor',
                p->'audit_context'->>'request_id')
        RETURNING * INTO made;
        INSERT INTO ledger (id, window_id, request_id, attempt, operation, provider, model, status, bound, cost,
                            cost_basis, outcome, reserved_at, expires_at, ended_at, day)
        VALUES (made.id, w.id, made.request_id, 1, 'adjustment', 'adjustment', 'adjustment', 'settled', 0, amount,
                'adjustment', 'adjusted', made.at, made.at, made.at, ledger_day(w, settings))
        RETURNING * INTO e;
        PERFORM ledger_roll_up(e, 1);
        UPDATE budget_window SET spent = spent + amount WHERE id = w.id RETURNING * INTO w;
        IF w.closed_at IS NULL THEN
            SELECT * INTO step FROM ledger_record_state(
                w, ledger_limit_in_force(w.limit_usd, settings), settings, NULL, NULL, entry_id);
            w := step.w; threshold_events := step.threshold_events;
        END IF;
        PERFORM audit_write(p, 'budget.adjusted', before,
                            ledger_window_json(w) || jsonb_build_object('adjustment', ledger_adjustment_json(made)));
    END IF;
    RETURN jsonb_build_object(
        'adjustment', ledger_adjustment_json(made), 'budget',
        ledger_budget_json(w, ledger_limit_in_force(w.limit_usd, settings), settings), 'rolled_over', rolled_over, 'threshold_events', threshold_events);
END $$;

-- Adjustments, the newest first. p: {limit, before?: an id, window_id?}
CREATE OR REPLACE FUNCTION ledger_adjustments(p jsonb) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT COALESCE(jsonb_agg(ledger_adjustment_json(page.a) ORDER BY (page.a).id DESC), '[]')
    FROM (SELECT a FROM budget_adjustment a
          WHERE a.id < COALESCE((p->>'before')::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
                AND (p->>'window_id' IS NULL OR a.window_id = (p->>'window_id')::bigint)
          ORDER BY a.id DESC LIMIT (p->>'limit')::integer) page
$$;
