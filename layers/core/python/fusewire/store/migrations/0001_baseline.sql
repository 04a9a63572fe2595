-- The tables of the ledger, the keys and the audit. The functions that read and write them are in functions/.
-- Money is numeric, in USD. Times are timestamptz.

-- Which set of functions the database holds (store/migrate.py). The table has one row.
CREATE TABLE schema_functions (
    single     boolean     PRIMARY KEY DEFAULT true CHECK (single),
    version    integer     NOT NULL,
    hash       text        NOT NULL, -- SHA-256 over the files, in hex
    applied_at timestamptz NOT NULL
);

CREATE TABLE budget_window (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    budget          text        NOT NULL DEFAULT 'global', -- or a key's id: each key that calls has windows of its own
    opened_at       timestamptz NOT NULL,
    opened_by       text        NOT NULL CHECK (opened_by IN ('use', 'period_end', 'schedule', 'admin')),
    resets_at       timestamptz NOT NULL,
    closed_at       timestamptz,
    spent           numeric     NOT NULL DEFAULT 0 CHECK (spent >= 0),
    reserved        numeric     NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    request_count   bigint      NOT NULL DEFAULT 0,
    -- The state that was last recorded, with its threshold events. Callers see a state that is computed from spent and
    -- the limit in force.
    state           text        NOT NULL DEFAULT 'CLOSED' CHECK (state IN ('CLOSED', 'HALF_OPEN', 'OPEN')),
    -- No reservation that expires up to this time is open. The next search for expired ones starts here, beyond the
    -- dead entries of ledger_open, which only a vacuum of the whole ledger removes.
    expired_until   timestamptz NOT NULL DEFAULT '-infinity',
    reset_id        uuid        UNIQUE, -- of the reset that opened it. The caller makes it: sent twice, it resets once.
    -- The counters of a key's rate limit. The rate window is the minute that a key's first call begins.
    rate_window_started_at timestamptz,
    rate_requests   integer     NOT NULL DEFAULT 0,
    rate_tokens     bigint      NOT NULL DEFAULT 0,
    -- Since when its entries are in an archive and no longer in the ledger. Its sums and rollups stay.
    archived_at     timestamptz
) WITH (fillfactor = 50); -- room on the page: each call updates this row twice, and no index changes with it

CREATE UNIQUE INDEX budget_window_open ON budget_window (budget) WHERE closed_at IS NULL;
CREATE INDEX budget_window_budget ON budget_window (budget, opened_at);

CREATE TABLE budget_threshold_event (
    window_id    bigint      NOT NULL REFERENCES budget_window,
    state        text        NOT NULL CHECK (state IN ('HALF_OPEN', 'OPEN')),
    crossed_at   timestamptz NOT NULL,
    spent        numeric     NOT NULL,
    limit_usd    numeric     NOT NULL,
    -- Which statement returned the event, so that a caller whose answer was lost gets it again. One of the two is NULL.
    entry_id     uuid, -- the entry whose settlement crossed the threshold
    statement_id uuid  -- the statement that expired reservations or met a lowered limit: a reset's id, or a new entry's
);
CREATE INDEX budget_threshold_event_window ON budget_threshold_event (window_id);
CREATE INDEX budget_threshold_event_statement ON budget_threshold_event (statement_id) WHERE statement_id IS NOT NULL;

-- A part of the company's headroom, allocated to the sessions that map to this slot (AI_LEDGER_SLOTS). A window's spent
-- and reserved are its row's and its slots' together. A reclaimed slot holds nothing.
CREATE TABLE budget_slot (
    window_id     bigint   NOT NULL REFERENCES budget_window,
    slot          smallint NOT NULL CHECK (slot >= 1),
    epoch         bigint   NOT NULL DEFAULT 1, -- counts how often the slot was reclaimed
    ceiling       numeric  NOT NULL, -- the alert threshold in USD under which it was allocated
    allocated     numeric  NOT NULL CHECK (allocated >= 0), -- 0: reclaimed
    spent         numeric  NOT NULL DEFAULT 0 CHECK (spent >= 0),
    reserved      numeric  NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    request_count bigint   NOT NULL DEFAULT 0,
    CHECK (spent + reserved <= allocated),
    PRIMARY KEY (window_id, slot)
) WITH (fillfactor = 50);

CREATE TABLE ledger (
    id                  uuid        PRIMARY KEY, -- the caller makes it: a statement that is sent twice books once
    window_id           bigint      NOT NULL REFERENCES budget_window,
    key_window_id       bigint      REFERENCES budget_window,
    slot                smallint, -- in which it was reserved; it still is there while the slot's epoch is this one
    slot_epoch          bigint,
    request_id          text        NOT NULL,
    attempt             integer     NOT NULL CHECK (attempt >= 1),
    operation           text        NOT NULL CHECK (operation IN ('chat', 'embedding', 'probe', 'adjustment')),
    provider            text        NOT NULL,
    model               text        NOT NULL,
    tier                text,
    key_id              text,
    status              text        NOT NULL CHECK (status IN ('reserved', 'settled', 'released')),
    bound               numeric     NOT NULL CHECK (bound >= 0),
    tokens_bound        bigint      NOT NULL DEFAULT 0,
    cost                numeric     CHECK (cost >= 0 OR operation = 'adjustment'),
    cost_basis          text        CHECK (cost_basis IN ('actual', 'bound', 'adjustment')),
    outcome             text, -- 'success', a failure's kind, or 'expired'
    input_tokens        bigint      NOT NULL DEFAULT 0,
    output_tokens       bigint      NOT NULL DEFAULT 0,
    cached_input_tokens bigint      NOT NULL DEFAULT 0,
    cache_write_tokens  bigint      NOT NULL DEFAULT 0,
    reasoning_tokens    bigint      NOT NULL DEFAULT 0,
    reserved_at         timestamptz NOT NULL,
    expires_at          timestamptz NOT NULL,
    ended_at            timestamptz,
    day                 date, -- of the settlement, in the budget's time zone: the day of its rollup row
    CHECK ((status = 'reserved') = (ended_at IS NULL)),
    CHECK ((status = 'settled') = (cost_basis IS NOT NULL AND cost IS NOT NULL AND day IS NOT NULL)),
    CHECK ((operation = 'adjustment') = (cost_basis IS NOT NULL AND cost_basis = 'adjustment'))
);
CREATE INDEX ledger_open ON ledger (window_id, expires_at) WHERE status = 'reserved';
CREATE INDEX ledger_request ON ledger (request_id);

-- What administrators booked by hand. The money is an entry of the ledger under the same id; this stays when that is
-- archived.
CREATE TABLE budget_adjustment (
    id         uuid        PRIMARY KEY, -- the caller makes it: sent twice, booked once
    window_id  bigint      NOT NULL REFERENCES budget_window,
    at         timestamptz NOT NULL,
    amount     numeric     NOT NULL CHECK (amount <> 0),
    reason     text        NOT NULL,
    actor      text        NOT NULL, -- as in the audit
    request_id text        NOT NULL
);

-- What the budget and usage routes read: its size follows days x models, never calls.
CREATE TABLE usage_rollup (
    window_id     bigint  NOT NULL REFERENCES budget_window,
    day           date    NOT NULL,
    provider      text    NOT NULL,
    model         text    NOT NULL,
    tier          text    NOT NULL, -- '' for none: part of the key
    key_id        text    NOT NULL, -- '' for none
    -- Rollup rows are as hot as the window's row, so each slot has its own. 0: booked under the window's lock.
    slot          smallint NOT NULL DEFAULT 0,
    cost          numeric NOT NULL DEFAULT 0,
    requests      bigint  NOT NULL DEFAULT 0,
    input_tokens  bigint  NOT NULL DEFAULT 0,
    output_tokens bigint  NOT NULL DEFAULT 0,
    PRIMARY KEY (window_id, day, provider, model, tier, key_id, slot)
) WITH (fillfactor = 50);

-- No call pays for these indexes: their columns never change, and rows are made once a day and model.
CREATE INDEX usage_rollup_day ON usage_rollup (day);
CREATE INDEX usage_rollup_key ON usage_rollup (key_id, day);

CREATE TABLE provider_health (
    provider             text PRIMARY KEY,
    consecutive_failures integer NOT NULL DEFAULT 0,
    cooldown_until       timestamptz,
    cooled_at            timestamptz, -- when a failure last opened a cooldown
    last_success_at      timestamptz,
    last_failure_at      timestamptz,
    last_failure_kind    text,
    last_failure_message text
) WITH (fillfactor = 50);

-- Refusals by a vendor for a reason that nobody lists, of a key's calls to a model since the model last answered it.
CREATE TABLE vendor_refusal (
    key_id     text        NOT NULL, -- '' for none
    provider   text        NOT NULL,
    model      text        NOT NULL,
    refusals   integer     NOT NULL CHECK (refusals > 0),
    refused_at timestamptz NOT NULL, -- the last of them
    until      timestamptz, -- the key's calls to the model aren't reserved before; NULL while there are too few
    PRIMARY KEY (key_id, provider, model)
) WITH (fillfactor = 50);
CREATE INDEX vendor_refusal_refused_at ON vendor_refusal (refused_at);

-- What a model's server adds to a prompt, in tokens, where a call's usage was more than its bound allowed for.
CREATE TABLE input_allowance (
    provider  text        NOT NULL,
    model     text        NOT NULL, -- in small letters
    tokens    bigint      NOT NULL CHECK (tokens > 0),
    raised_at timestamptz NOT NULL,
    entry_id  uuid        NOT NULL, -- the entry whose usage showed it
    PRIMARY KEY (provider, model)
);

CREATE TABLE api_key (
    id                      text        PRIMARY KEY,
    name                    text        NOT NULL,
    scopes                  text[]      NOT NULL CHECK (scopes <@ ARRAY['complete', 'admin']),
    limit_usd               numeric     CHECK (limit_usd >= 0), -- NULL, here and below: no limit of its own
    requests_per_minute     integer     CHECK (requests_per_minute > 0),
    tokens_per_minute       bigint      CHECK (tokens_per_minute > 0),
    allowed_models          text[], -- tiers, provider/model, provider/*, or a model's id
    allowed_classifications text[],
    expires_at              timestamptz,
    tags                    jsonb       NOT NULL DEFAULT '{}',
    created_at              timestamptz NOT NULL,
    created_by              text        NOT NULL,
    revoked_at              timestamptz
);

-- A key has one secret, or two while one replaces the other. Only the hash is kept: a stolen dump opens nothing.
CREATE TABLE api_key_secret (
    hash       bytea       PRIMARY KEY, -- SHA-256 of a secret of 256 random bits, which needs no salt
    key_id     text        NOT NULL REFERENCES api_key,
    prefix     text        NOT NULL, -- what a person may see of it
    created_at timestamptz NOT NULL,
    expires_at timestamptz -- the end of the overlap, once another secret replaces it
);
CREATE INDEX api_key_secret_key ON api_key_secret (key_id);

-- The prices that administrators set. A row is written once: only that it is applied, and that it ends, are added. What
-- is booked stays.
CREATE TABLE price (
    id             uuid        PRIMARY KEY, -- the caller makes it: sent twice, made once
    provider       text        NOT NULL,
    model          text        NOT NULL, -- '*': each model of the provider's that has none of its own
    entry          jsonb       NOT NULL, -- as an entry of AI_PRICE_OVERRIDES
    source         text        NOT NULL, -- 'admin', or where a pull found it
    created_at     timestamptz NOT NULL,
    created_by     text        NOT NULL,
    effective_from timestamptz, -- NULL while it is staged: nobody is priced by it
    applied_by     text,
    removed_at     timestamptz, -- from then on it counts no more
    removed_by     text,
    CHECK ((effective_from IS NULL) = (applied_by IS NULL)),
    CHECK ((removed_at IS NULL) = (removed_by IS NULL))
);
CREATE INDEX price_model ON price (provider, lower(model));

-- The version of the prices: when they last changed, in microseconds since 1970; 0 before that. A reservation names the
-- one that its bounds were computed with. The table has one row.
CREATE TABLE price_version (
    single  boolean PRIMARY KEY DEFAULT true CHECK (single),
    version bigint  NOT NULL
);
INSERT INTO price_version (version) VALUES (0);

-- Answers of POST /responses with what was asked, for as long as AI_RESPONSES_RETENTION_HOURS says. What was said is
-- sealed: the key is a setting, and never in the database.
CREATE TABLE kept_response (
    key_id      text        NOT NULL, -- whose it is; '' without a key
    id          text        NOT NULL,
    previous_id text,                 -- the response that it goes on from
    sealed      bytea       NOT NULL,
    size        integer     NOT NULL CHECK (size >= 0), -- bytes of what is sealed, before it was compressed
    expires_at  timestamptz NOT NULL,
    PRIMARY KEY (key_id, id)
);
CREATE INDEX kept_response_expires_at ON kept_response (expires_at);

-- The settings of the environment that started last, without secrets. The table has one row.
CREATE TABLE settings_snapshot (
    single   boolean     PRIMARY KEY DEFAULT true CHECK (single),
    settings jsonb       NOT NULL,
    seen_at  timestamptz NOT NULL
);

-- Each audit entry carries a hash over itself and over its predecessor's hash, and the head holds the last one. So a
-- changed entry, a gap and a lost end all show. n has no gaps, unlike an identity column after a rollback. The
-- functions' role may only append (grants.sql).
CREATE TABLE audit (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    n          bigint      NOT NULL UNIQUE,
    at         timestamptz NOT NULL,
    actor      text        NOT NULL, -- a key's id, 'open' where no key is asked for, or 'system'
    action     text        NOT NULL,
    source_ip  text,
    request_id text,
    before     jsonb,
    after      jsonb,
    hash       bytea       NOT NULL
);
CREATE INDEX audit_unknown ON audit (at) WHERE actor = 'unknown';

CREATE TABLE audit_head (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    n      bigint  NOT NULL,
    hash   bytea   NOT NULL
);
INSERT INTO audit_head (n, hash) VALUES (0, '');

-- The refused calls of admin routes that the audit has no entry for: it gets one a key and minute, which says how many
-- calls it stands for.
CREATE TABLE admin_refusal (
    key_id     text        PRIMARY KEY,
    written_at timestamptz NOT NULL, -- the time of the key's last entry
    unwritten  bigint      NOT NULL, -- the calls that were refused since
    last       jsonb       NOT NULL  -- the last of them: {audit_context, call, reason}
);

-- Where the health route asks the disk for a page, and gives it back: no row is ever committed. A row fills a page, so
-- that each needs a new one.
CREATE TABLE health_probe (
    page text NOT NULL
) WITH (autovacuum_vacuum_threshold = 20, autovacuum_vacuum_scale_factor = 0);
ALTER TABLE health_probe ALTER COLUMN page SET STORAGE PLAIN;
