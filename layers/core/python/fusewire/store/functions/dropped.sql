-- Functions that no release in use calls any more, as DROP FUNCTION IF EXISTS name(argument types). README.md
-- says when.
DROP FUNCTION IF EXISTS ledger_period_end(timestamptz, text);
DROP FUNCTION IF EXISTS ledger_path_is_settled(jsonb, budget_window[]);
DROP FUNCTION IF EXISTS ledger_refusal(budget_window, budget_window, api_key, jsonb, jsonb, boolean);
DROP FUNCTION IF EXISTS ledger_insert_reservation(jsonb, text, jsonb, bigint, budget_window, smallint, bigint, jsonb, boolean, timestamptz);
DROP FUNCTION IF EXISTS ledger_insert_reservation(jsonb, text, jsonb, bigint, budget_window, budget_window[], smallint, bigint, jsonb, boolean, timestamptz);
DROP FUNCTION IF EXISTS output_size_record(ledger, jsonb, smallint);
