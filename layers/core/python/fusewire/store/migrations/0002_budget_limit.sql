-- Limits of the company's budget that administrators set while it runs. They stand in the setting's place.

-- The audited limit of this window, in USD, NULL while the setting is in force. It stands in the window's own row, so
-- that whoever has the window locked knows it. A key's window has none: its limit is the key's.
ALTER TABLE budget_window ADD COLUMN limit_usd numeric CHECK (limit_usd >= 0);

-- Each limit that was set or taken back. Rows are changed under the lock of the company's open window alone.
CREATE TABLE budget_limit (
    id         uuid        PRIMARY KEY, -- the caller makes it: sent twice, set once
    window_id  bigint      NOT NULL REFERENCES budget_window, -- which was open then
    set_at     timestamptz NOT NULL,
    amount     numeric     CHECK (amount >= 0), -- NULL: it takes back what was in force
    until      text        CHECK (until = 'window'), -- NULL: for good
    reason     text        NOT NULL,
    actor      text        NOT NULL, -- as in the audit
    request_id text        NOT NULL,
    ended_at   timestamptz, -- since when it counts no more
    CHECK (amount IS NOT NULL OR (until IS NULL AND ended_at IS NOT NULL))
);
-- One for the window and one for good, at most.
CREATE UNIQUE INDEX budget_limit_standing ON budget_limit ((COALESCE(until, 'for good'))) WHERE ended_at IS NULL;
