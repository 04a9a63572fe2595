-- Functions that no release in use calls any more, as DROP FUNCTION IF EXISTS name(argument types). README.md
-- says when.
DROP FUNCTION IF EXISTS ledger_period_end(timestamptz, text);
