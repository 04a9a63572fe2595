-- Budgets between the company's and the keys', as a tree, and a budget for each user of a key.

-- A node of the tree. Its windows are in budget_window under its id, as a key's are under the key's. Rows are changed
-- under the lock of the company's open window with its slots reclaimed (functions/nodes.sql), so that what a statement
-- of the ledger reads of them stays as it is until its end. A deleted node's row stays, for what was booked in it.
CREATE TABLE budget_node (
    id              text        PRIMARY KEY, -- 'bud_...'
    name            text        NOT NULL,
    parent_id       text        REFERENCES budget_node, -- NULL: directly below the company's budget
    limit_usd       numeric     CHECK (limit_usd >= 0), -- NULL: it counts, and refuses nothing
    period          text        NOT NULL CHECK (period IN ('month', 'week', 'day', 'none')),
    alert_threshold numeric     CHECK (alert_threshold > 0 AND alert_threshold < 1), -- NULL, here and below: the setting's
    open_threshold  numeric     CHECK (open_threshold > 0 AND open_threshold <= 1),
    models          text[], -- it counts the calls of these alone, named as a key's allowed_models; NULL: every call
    created_at      timestamptz NOT NULL,
    created_by      text        NOT NULL,
    deleted_at      timestamptz,
    CHECK (alert_threshold < open_threshold)
);
CREATE UNIQUE INDEX budget_node_name ON budget_node ((COALESCE(parent_id, '')), name) WHERE deleted_at IS NULL;

ALTER TABLE api_key
    ADD COLUMN budget_id text REFERENCES budget_node, -- NULL: directly below the company's budget
    ADD COLUMN period text NOT NULL DEFAULT 'month' CHECK (period IN ('month', 'week', 'day', 'none')),
    -- What each user of the key's requests may spend in a period of the key's; NULL: users aren't told apart.
    ADD COLUMN per_user_limit_usd numeric CHECK (per_user_limit_usd >= 0);
CREATE INDEX api_key_budget ON api_key (budget_id) WHERE budget_id IS NOT NULL;

-- The windows, beside the company's and the key's, in which an entry was reserved and is settled: of its user's budget
-- and of the nodes that count it, from the key up. NULL where there is none.
ALTER TABLE ledger ADD COLUMN path_window_ids bigint[];

-- With what the users of keys are hashed (functions/paths.sql). The table has one row. gen_random_uuid has 122 random
-- bits of the system's strong source.
CREATE TABLE user_hash_secret (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    secret bytea   NOT NULL
);
INSERT INTO user_hash_secret (secret)
SELECT sha256(convert_to(string_agg(gen_random_uuid()::text, ''), 'UTF8')) FROM generate_series(1, 4);
