-- API keys, a budget and limits per minute for each, an audit that shows what was changed or is missing, and the role
-- that the functions run as.

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

-- budget_window.budget is 'global' or a key's id: each key that calls has windows of its own, by the same rules.
-- The minute's counters are for keys with limits per minute; the minute begins with its first call.
ALTER TABLE budget_window
    ADD COLUMN minute_at       timestamptz,
    ADD COLUMN minute_requests integer NOT NULL DEFAULT 0,
    ADD COLUMN minute_tokens   bigint  NOT NULL DEFAULT 0;

ALTER TABLE ledger
    ADD COLUMN key_window_id bigint REFERENCES budget_window,
    ADD COLUMN tokens_bound  bigint NOT NULL DEFAULT 0;

-- The settings that the environments were last seen to run under, without secrets.
CREATE TABLE settings_seen (
    single   boolean     PRIMARY KEY DEFAULT true CHECK (single),
    settings jsonb       NOT NULL,
    seen_at  timestamptz NOT NULL
);

-- Each audit entry carries a hash over itself and its predecessor's hash; the head holds the last one's, so that a
-- changed entry, a gap and a lost end all show. n has no gaps, unlike an identity column after a rollback.
ALTER TABLE audit ADD COLUMN n bigint UNIQUE, ADD COLUMN hash bytea;
CREATE TABLE audit_head (
    single boolean PRIMARY KEY DEFAULT true CHECK (single),
    n      bigint  NOT NULL,
    hash   bytea   NOT NULL
);
INSERT INTO audit_head (n, hash) VALUES (0, '');

CREATE FUNCTION audit_hash(previous bytea, a audit) RETURNS bytea
LANGUAGE sql STABLE AS $$
    -- Seconds since 1970 rather than the time's own text, which depends on the session's zone.
    SELECT sha256(previous || convert_to(jsonb_build_array(
        a.n, extract(epoch FROM a.at)::text, a.actor, a.action, a.source_ip, a.request_id, a.before, a.after
    )::text, 'UTF8'))
$$;

-- The one way into the audit, by its owner's rights: whoever calls it can neither change nor delete an entry. Temporary
-- tables, which anybody may make and which would come first, are looked up last.
CREATE FUNCTION audit_append(at timestamptz, actor text, action text, source_ip text, request_id text, before jsonb,
                             after jsonb) RETURNS audit
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    head audit_head;
    made audit;
BEGIN
    SELECT * INTO head FROM audit_head FOR UPDATE;
    made.n := head.n + 1;
    made.at := at; made.actor := actor; made.action := action; made.source_ip := source_ip;
    made.request_id := request_id; made.before := before; made.after := after;
    made.hash := audit_hash(head.hash, made);
    INSERT INTO audit (at, actor, action, source_ip, request_id, before, after, n, hash)
    VALUES (made.at, made.actor, made.action, made.source_ip, made.request_id, made.before, made.after, made.n, made.hash)
    RETURNING * INTO made;
    UPDATE audit_head h SET n = made.n, hash = made.hash;
    RETURN made;
END $$;

-- Roles belong to the server, not to the database: another database of it may have made this one already, and
-- an owner who may make none goes on as the only role.
DO $$
BEGIN
    CREATE ROLE fusewire_app NOLOGIN;
EXCEPTION
    WHEN duplicate_object OR unique_violation OR insufficient_privilege THEN NULL;
END $$;
