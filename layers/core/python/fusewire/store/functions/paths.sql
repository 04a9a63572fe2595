-- The budgets between the company's and a key's: the nodes of the tree above the key, and the budget of the request's
-- user. Together they are the call's path. A call whose key has no node above it and tells no users apart has none.
--
-- A path is a jsonb array from the key up, the user's budget first: [{budget, limit, alert, open, name?}]. limit is NULL
-- where the budget refuses nothing. alert and open stand where the settings have theirs, so that an element serves the
-- functions that take settings. A user's budget is named user:<the key's id>:<hash>, a node's by its id.

-- The period after which a budget's windows end: month, week, day or none.
CREATE OR REPLACE FUNCTION ledger_period_of(of_budget text) RETURNS text
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF of_budget = 'global' THEN RETURN 'month'; END IF;
    IF starts_with(of_budget, 'bud_') THEN RETURN (SELECT n.period FROM budget_node n WHERE n.id = of_budget); END IF;
    RETURN COALESCE((SELECT k.period FROM api_key k WHERE k.id = ledger_key_of(of_budget)), 'month');
END $$;

-- The key whose budget it is, or one of whose users'.
CREATE OR REPLACE FUNCTION ledger_key_of(of_budget text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN starts_with(of_budget, 'user:') THEN split_part(of_budget, ':', 2) ELSE of_budget END
$$;

-- The settings with the thresholds of a budget in their place, where it has any of its own.
CREATE OR REPLACE FUNCTION ledger_thresholds_of(of_budget text, settings jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF NOT starts_with(of_budget, 'bud_') THEN RETURN settings; END IF;
    RETURN (SELECT settings || jsonb_strip_nulls(jsonb_build_object('alert', n.alert_threshold, 'open', n.open_threshold))
            FROM budget_node n WHERE n.id = of_budget);
END $$;

-- How many calls wait for this budget.
CREATE OR REPLACE FUNCTION ledger_waiting(of_budget text) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT 0::bigint
$$;
