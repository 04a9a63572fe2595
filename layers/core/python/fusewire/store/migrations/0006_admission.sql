-- Calls that wait for room in a budget, and how long models' answers are.

-- One row a call that waits. It is deleted when the call is admitted, refused or given up; one whose caller died counts
-- until alive_until, and is deleted by whoever waits later (functions/admission.sql).
CREATE TABLE admission_wait (
    entry_id    uuid        PRIMARY KEY, -- of the entry that the call will have
    ticket      bigint      NOT NULL GENERATED ALWAYS AS IDENTITY, -- the place in the line: drawn under the company's lock
    key_id      text        NOT NULL, -- '' for none
    blocked_by  text        NOT NULL, -- the budget that has no room: 'global', or the key's id
    bound       numeric     NOT NULL CHECK (bound > 0), -- that it waits for, in USD
    since       timestamptz NOT NULL,
    asked_at    timestamptz NOT NULL, -- when it was last refused under the lock
    alive_until timestamptz NOT NULL
) WITH (fillfactor = 50);

-- How many answers of a model were how long: by key, and under '' those of calls without a key and of each key's first
-- ones. sizes[n] counts the answers of at most output_step(n) tokens and more than output_step(n - 1).
CREATE TABLE output_size (
    provider text      NOT NULL,
    model    text      NOT NULL,
    key_id   text      NOT NULL,
    slot     smallint  NOT NULL DEFAULT 0, -- as in usage_rollup
    calls    integer   NOT NULL, -- the sum of sizes
    sizes    integer[] NOT NULL,
    PRIMARY KEY (provider, model, key_id, slot)
) WITH (fillfactor = 50);
