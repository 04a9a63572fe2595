-- An audit that shows what was changed or is missing; the functions' role may only append to it (grants.sql).

-- Each audit entry carries a hash over itself and its predecessor's hash; the head holds the last one's, so that a
-- changed entry, a gap and a lost end all show. n has no gaps, unlike an identity column after a rollback.
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
