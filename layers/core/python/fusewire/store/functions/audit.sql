-- The audit: the one way to write it, what is written of keys, settings and refused calls, and how it is read.

CREATE OR REPLACE FUNCTION audit_hash(previous bytea, a audit) RETURNS bytea
LANGUAGE sql STABLE AS $$
    -- Seconds since 1970 rather than the time's own text, which depends on the session's zone.
    SELECT sha256(previous || convert_to(jsonb_build_array(
        a.n, extract(epoch FROM a.at)::text, a.actor, a.action, a.source_ip, a.request_id, a.before, a.after
    )::text, 'UTF8'))
$$;

-- The one way into the audit. It runs with its owner's rights: whoever calls it can neither change nor delete an entry.
-- Temporary tables, which anybody may make and which would otherwise come first, are looked up last.
CREATE OR REPLACE FUNCTION audit_append(at timestamptz, actor text, action text, source_ip text, request_id text,
                                        before jsonb, after jsonb) RETURNS audit
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
    VALUES (made.at, made.actor, made.action, made.source_ip, made.request_id, made.before, made.after, made.n,
            made.hash)
    RETURNING * INTO made;
    UPDATE audit_head h SET n = made.n, hash = made.hash;
    RETURN made;
END $$;

-- Audits settings that differ from those of the environment that started before.
CREATE OR REPLACE FUNCTION settings_record(current jsonb) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    was jsonb;
BEGIN
    SELECT s.settings INTO was FROM settings_snapshot s;
    IF was IS NOT DISTINCT FROM current THEN RETURN; END IF;
    INSERT INTO settings_snapshot (settings, seen_at) VALUES (current, clock_timestamp())
    ON CONFLICT (single) DO UPDATE SET settings = EXCLUDED.settings, seen_at = EXCLUDED.seen_at;
    IF was IS NULL THEN RETURN; END IF; -- the first start changes nothing
    PERFORM audit_append(
        clock_timestamp(), 'system', 'settings.changed', NULL, NULL,
        (SELECT jsonb_object_agg(o.key, o.value) FROM jsonb_each(was) o WHERE current->o.key IS DISTINCT FROM o.value),
        (SELECT jsonb_object_agg(c.key, c.value) FROM jsonb_each(current) c WHERE was->c.key IS DISTINCT FROM c.value));
END $$;

-- Writes what the caller of p changed, by p's audit_context: {actor, source_ip, request_id}. Returns {before, after}.
CREATE OR REPLACE FUNCTION audit_write(p jsonb, action text, before jsonb, after jsonb) RETURNS jsonb
LANGUAGE sql VOLATILE AS $$
    SELECT jsonb_build_object('before', w.before, 'after', w.after)
    FROM audit_append(clock_timestamp(), p->'audit_context'->>'actor', action, p->'audit_context'->>'source_ip',
                      p->'audit_context'->>'request_id', before, after) w
$$;

-- Writes the entry that stands for a key's refused calls which have none.
CREATE OR REPLACE FUNCTION admin_refusal_write(r admin_refusal) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE admin_refusal SET written_at = clock_timestamp(), unwritten = 0 WHERE key_id = r.key_id;
    PERFORM audit_write(r.last, 'admin.refused', NULL,
                        r.last->'call' || jsonb_build_object('why', r.last->>'reason', 'count', r.unwritten));
END $$;

-- Audits a call of an admin route that was refused, and counts it in its key's rate limit. Of a key's refused calls one
-- a minute is written, with their number. Callers without a valid key can send from any number of addresses: of theirs,
-- one an address and 60 in all are written within a minute. Returns whether it was written.
-- p: {settings?, key_id?, audit_context, call: {method, path}, reason}
-- Locks: the key's window, its row of admin_refusal, audit_head, a row of refused_call.
CREATE OR REPLACE FUNCTION admin_refused(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    recent bigint;
    same bigint;
    r admin_refusal;
    written boolean := false;
BEGIN
    IF p->>'key_id' IS NULL THEN
        PERFORM pg_advisory_xact_lock(hashtext('fusewire.admin_refused'));
        SELECT count(*), count(*) FILTER (WHERE a.source_ip IS NOT DISTINCT FROM p->'audit_context'->>'source_ip')
        INTO recent, same
        FROM audit a WHERE a.actor = 'unknown' AND a.at > clock_timestamp() - interval '1 minute';
        IF same > 0 OR recent >= 60 THEN RETURN 'false'; END IF;
        PERFORM audit_write(p, 'admin.refused', NULL, p->'call' || jsonb_build_object('why', p->>'reason'));
        RETURN 'true';
    END IF;
    IF p ? 'resent' AND EXISTS (
        SELECT FROM admin_refusal f WHERE f.key_id = p->>'key_id'
            AND f.last->'audit_context'->>'request_id' = p->'audit_context'->>'request_id'
    ) THEN
        RETURN 'false'; -- it is counted, and written or to be written
    END IF;
    IF p ? 'settings' THEN PERFORM key_count_refused(p); END IF;
    INSERT INTO admin_refusal AS f (key_id, written_at, unwritten, last)
    VALUES (p->>'key_id', '-infinity', 1, p - 'settings' - 'resent')
    ON CONFLICT (key_id) DO UPDATE SET unwritten = f.unwritten + 1, last = EXCLUDED.last
    RETURNING * INTO r;
    IF r.written_at <= clock_timestamp() - interval '1 minute' THEN
        PERFORM admin_refusal_write(r);
        written := true;
    END IF;
    PERFORM refused_call_record(
        p->>'key_id', 'permission_denied', p->'audit_context'->>'request_id', p ? 'resent');
    RETURN to_jsonb(written);
END $$;

-- Audit entries, the newest first. Before them it writes those of refused calls whose minute is over.
-- p: {limit, scan_limit, before?: an n, action?, actor?, from?, to?, within?}, as ledger_calls.
CREATE OR REPLACE FUNCTION audit_entries(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    newest bigint := COALESCE((p->>'before')::bigint, 9223372036854775807);
    wanted integer := (p->>'limit')::integer;
    scan_limit integer := (p->>'scan_limit')::integer;
    nodes text[] := CASE WHEN p->>'within' IS NOT NULL THEN scope_nodes(p->>'within') END;
    keys text[] := scope_keys(nodes);
    found jsonb;
    following bigint;
BEGIN
    PERFORM admin_refusal_write(f) FROM (
        SELECT * FROM admin_refusal
        WHERE unwritten > 0 AND written_at <= clock_timestamp() - interval '1 minute'
        ORDER BY key_id FOR UPDATE SKIP LOCKED) f;
    SELECT COALESCE(jsonb_agg(s.entry), '[]') INTO found FROM (
        SELECT jsonb_build_object(
            'n', a.n, 'at', a.at, 'actor', a.actor, 'action', a.action, 'source_ip', a.source_ip,
            'request_id', a.request_id, 'before', a.before, 'after', a.after, 'hash', encode(a.hash, 'hex')) AS entry
        FROM (SELECT * FROM audit x WHERE x.n < newest ORDER BY x.n DESC LIMIT scan_limit) a
        WHERE (p->>'action' IS NULL OR a.action = p->>'action') AND (p->>'actor' IS NULL OR a.actor = p->>'actor')
              AND (p->>'from' IS NULL OR a.at >= (p->>'from')::timestamptz)
              AND (p->>'to' IS NULL OR a.at < (p->>'to')::timestamptz)
              AND scope_has_entry(a, nodes, keys)
        ORDER BY a.n DESC LIMIT wanted + 1) s;
    IF jsonb_array_length(found) > wanted THEN
        found := found - wanted;
        following := found->-1->>'n';
    ELSE
        SELECT n INTO following FROM audit x WHERE x.n < newest ORDER BY x.n DESC OFFSET scan_limit - 1 LIMIT 1;
    END IF;
    RETURN jsonb_build_object('rows', found, 'next', following);
END $$;
