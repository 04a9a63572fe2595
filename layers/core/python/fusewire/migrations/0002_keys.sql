-- API keys, and the settings that the environments run under.

CREATE TABLE api_key (
    id                      text        PRIMARY KEY,
    name                    text        NOT NULL,
    scopes                  text[]      NOT NULL CHECK (scopes <@ ARRAY['complete', 'admin']),
    monthly_budget_usd      numeric     CHECK (monthly_budget_usd >= 0), -- NULL, here and below: no limit of its own
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

-- The settings that the environments were last seen to run under, without secrets.
CREATE TABLE settings_seen (
    single   boolean     PRIMARY KEY DEFAULT true CHECK (single),
    settings jsonb       NOT NULL,
    seen_at  timestamptz NOT NULL
);
