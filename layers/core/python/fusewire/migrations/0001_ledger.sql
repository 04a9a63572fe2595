-- The ledger: budget windows, every attempt's reservation and cost, rollups, providers' health.
-- Money is NUMERIC, in USD. Times are timestamptz.

CREATE TABLE budget_window (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    budget          text        NOT NULL DEFAULT 'global', -- or a key's id: each key that calls has windows of its own
    opened_at       timestamptz NOT NULL,
    opened_by       text        NOT NULL CHECK (opened_by IN ('use', 'month_end', 'schedule', 'admin')),
    resets_at       timestamptz NOT NULL,
    closed_at       timestamptz,
    spent           numeric     NOT NULL DEFAULT 0 CHECK (spent >= 0),
    reserved        numeric     NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    request_count   bigint      NOT NULL DEFAULT 0,
    -- The state whose crossing was last recorded. What callers see is computed from spent and the limit in force.
    state           text        NOT NULL DEFAULT 'CLOSED' CHECK (state IN ('CLOSED', 'HALF_OPEN', 'OPEN')),
    -- No reservation that expires up to this time is open any more: the next search for expired ones starts here, beyond
    -- the dead entries of ledger_open, which only a vacuum of the whole ledger removes.
    swept_until     timestamptz NOT NULL DEFAULT '-infinity',
    reset_id        uuid        UNIQUE, -- of the reset that opened it, made by the caller: sent twice, it resets once
    -- The counters of a key with limits per minute; the minute begins with its first call.
    minute_at       timestamptz,
    minute_requests integer     NOT NULL DEFAULT 0,
    minute_tokens   bigint      NOT NULL DEFAULT 0,
    -- Since when its entries are in an archive and no longer in the ledger. Its sums and rollups stay.
    archived_at     timestamptz
) WITH (fillfactor = 50); -- room on the page: this row is updated twice a call, and none of that touches an index

CREATE UNIQUE INDEX budget_window_open ON budget_window (budget) WHERE closed_at IS NULL;
CREATE INDEX budget_window_budget ON budget_window (budget, opened_at);

CREATE TABLE budget_crossing (
    window_id  bigint      NOT NULL REFERENCES budget_window,
    state      text        NOT NULL CHECK (state IN ('HALF_OPEN', 'OPEN')),
    crossed_at timestamptz NOT NULL,
    spent      numeric     NOT NULL,
    limit_usd  numeric     NOT NULL,
    -- Whom it was told, so that a caller whose answer was lost is told again: one of the two, NULL the other.
    entry_id   uuid, -- the entry whose end crossed it
    sweep_id   uuid  -- the statement whose sweep, or a look at a lowered limit, found it: a reset's id, or an entry's to be
);
CREATE INDEX budget_crossing_window ON budget_crossing (window_id);
CREATE INDEX budget_crossing_sweep ON budget_crossing (sweep_id) WHERE sweep_id IS NOT NULL;

-- A part of the company's headroom, granted to the sessions that fall to this slot (AI_LEDGER_SLOTS). A window's spent and
-- reserved are its row's and its slots' together; a gathered slot holds nothing.
CREATE TABLE budget_slot (
    window_id     bigint   NOT NULL REFERENCES budget_window,
    slot          smallint NOT NULL CHECK (slot >= 1),
    epoch         bigint   NOT NULL DEFAULT 1, -- counts its gatherings
    ceiling       numeric  NOT NULL, -- the alert threshold in USD that it was granted under
    granted       numeric  NOT NULL CHECK (granted >= 0), -- 0: gathered
    spent         numeric  NOT NULL DEFAULT 0 CHECK (spent >= 0),
    reserved      numeric  NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    request_count bigint   NOT NULL DEFAULT 0,
    CHECK (spent + reserved <= granted),
    PRIMARY KEY (window_id, slot)
) WITH (fillfactor = 50);

CREATE TABLE ledger (
    id                  uuid        PRIMARY KEY, -- made by the caller: a statement sent twice books once
    window_id           bigint      NOT NULL REFERENCES budget_window,
    key_window_id       bigint      REFERENCES budget_window,
    slot                smallint, -- that it was reserved in; it still is there while the slot's epoch is this one
    slot_epoch          bigint,
    request_id          text        NOT NULL,
    attempt             integer     NOT NULL CHECK (attempt >= 1),
    operation           text        NOT NULL CHECK (operation IN ('chat', 'embedding', 'probe')),
    provider            text        NOT NULL,
    model               text        NOT NULL,
    tier                text,
    key_id              text,
    status              text        NOT NULL CHECK (status IN ('reserved', 'settled', 'released')),
    bound               numeric     NOT NULL CHECK (bound >= 0),
    tokens_bound        bigint      NOT NULL DEFAULT 0,
    cost                numeric     CHECK (cost >= 0),
    cost_basis          text        CHECK (cost_basis IN ('actual', 'bound')),
    outcome             text, -- 'success', a failure's kind, or 'expired'
    input_tokens        bigint      NOT NULL DEFAULT 0,
    output_tokens       bigint      NOT NULL DEFAULT 0,
    cached_input_tokens bigint      NOT NULL DEFAULT 0,
    cache_write_tokens  bigint      NOT NULL DEFAULT 0,
    reasoning_tokens    bigint      NOT NULL DEFAULT 0,
    reserved_at         timestamptz NOT NULL,
    expires_at          timestamptz NOT NULL,
    ended_at            timestamptz,
    day                 date, -- of the settlement, in the budget's time zone: which rollup row it went into
    CHECK ((status = 'reserved') = (ended_at IS NULL)),
    CHECK ((status = 'settled') = (cost_basis IS NOT NULL AND cost IS NOT NULL AND day IS NOT NULL))
);
CREATE INDEX ledger_open ON ledger (window_id, expires_at) WHERE status = 'reserved';
CREATE INDEX ledger_request ON ledger (request_id);

-- What the budget and usage routes read: its size follows days x models, never calls.
CREATE TABLE usage_rollup (
    window_id     bigint  NOT NULL REFERENCES budget_window,
    day           date    NOT NULL,
    provider      text    NOT NULL,
    model         text    NOT NULL,
    tier          text    NOT NULL, -- '' for none: part of the key
    key_id        text    NOT NULL, -- '' for none
    -- The rollups' rows are as hot as the window's: each slot has rows of its own. 0: booked under the window's lock.
    slot          smallint NOT NULL DEFAULT 0,
    cost          numeric NOT NULL DEFAULT 0,
    requests      bigint  NOT NULL DEFAULT 0,
    input_tokens  bigint  NOT NULL DEFAULT 0,
    output_tokens bigint  NOT NULL DEFAULT 0,
    PRIMARY KEY (window_id, day, provider, model, tier, key_id, slot)
) WITH (fillfactor = 50);

-- Neither index is on the path of a call: the columns never change, and rows are made once a day and model.
CREATE INDEX usage_rollup_day ON usage_rollup (day);
CREATE INDEX usage_rollup_key ON usage_rollup (key_id, day);

CREATE TABLE provider_health (
    provider             text PRIMARY KEY,
    consecutive_failures integer NOT NULL DEFAULT 0,
    cooldown_until       timestamptz,
    cooled_at            timestamptz, -- when a failure last opened a cooldown: attempts begun before it are no news
    last_success_at      timestamptz,
    last_failure_at      timestamptz,
    last_failure_kind    text,
    last_failure_message text
) WITH (fillfactor = 50);
