-- Keys as the admin API and the authorizer see them. As in 0004, each function takes one jsonb object and is one round
-- trip, and may be sent twice. "act": {actor, source_ip, request_id}, who does it from where, for the audit; "secret":
-- {hash, prefix}, the hash in hex: a secret itself never comes here.
--
-- Lock order: the key's row, then audit_head. The ledger's statements read keys and never lock them.

-- A key without its hashes.
CREATE FUNCTION key_json(k api_key) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT to_jsonb(k) || jsonb_build_object('secrets', (
        SELECT jsonb_agg(jsonb_build_object('prefix', s.prefix, 'created_at', s.created_at, 'expires_at', s.expires_at)
                         ORDER BY s.created_at)
        FROM api_key_secret s WHERE s.key_id = k.id))
$$;

-- The same with the window that the key's spending is in, NULL where it has none that is current.
CREATE FUNCTION key_budget_json(k api_key, settings jsonb) RETURNS jsonb
LANGUAGE sql VOLATILE AS $$
    SELECT key_json(k) || jsonb_build_object('budget', (
        SELECT ledger_key_json(w, settings) FROM budget_window w
        WHERE w.budget = k.id AND w.closed_at IS NULL AND w.resets_at > clock_timestamp()))
$$;

-- Whom a secret belongs to, as long as it is valid; NULL for every other reason alike. p: {hash}
CREATE FUNCTION key_authenticate(p jsonb) RETURNS jsonb
LANGUAGE sql VOLATILE AS $$
    SELECT jsonb_build_object(
        'hash', encode(s.hash, 'hex'), 'id', k.id, 'scopes', k.scopes, 'allowed_models', k.allowed_models,
        'allowed_classifications', k.allowed_classifications,
        'ends_in', extract(epoch FROM least(k.expires_at, s.expires_at) - clock_timestamp()))
    FROM api_key_secret s JOIN api_key k ON k.id = s.key_id
    WHERE s.hash = decode(p->>'hash', 'hex') AND k.revoked_at IS NULL
          AND COALESCE(least(k.expires_at, s.expires_at) > clock_timestamp(), true)
$$;

-- One key with what its forecast is made of. p: {settings, id}
CREATE FUNCTION key_show(p jsonb) RETURNS jsonb
LANGUAGE sql VOLATILE AS $$
    SELECT key_budget_json(k, p->'settings')
           || jsonb_build_object('days', usage_days(k.id, p->'settings'->>'timezone'))
    FROM api_key k WHERE k.id = p->>'id'
$$;

-- The keys made before the one that the page before ended with, the newest first. p: {settings, before?, limit}
CREATE FUNCTION key_list(p jsonb) RETURNS jsonb
LANGUAGE sql VOLATILE AS $$
    SELECT COALESCE(jsonb_agg(key_budget_json(page.k, p->'settings') ORDER BY (page.k).id DESC), '[]')
    FROM (SELECT k FROM api_key k WHERE p->>'before' IS NULL OR k.id < p->>'before'
          ORDER BY k.id DESC LIMIT (p->>'limit')::integer) page
$$;

-- Returns what it wrote, for the log's line.
CREATE FUNCTION key_audit(p jsonb, action text, before jsonb, after jsonb) RETURNS jsonb
LANGUAGE sql VOLATILE AS $$
    SELECT jsonb_build_object('before', w.before, 'after', w.after)
    FROM audit_append(clock_timestamp(), p->'act'->>'actor', action, p->'act'->>'source_ip', p->'act'->>'request_id',
                      before, after) w
$$;

-- The functions that change a key return it with "written": the audit's before and after, NULL when nothing changed.

-- p: {settings, id, fields, secret, act}
CREATE FUNCTION key_create(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    k api_key := jsonb_populate_record(NULL::api_key, p->'fields');
    written jsonb;
BEGIN
    k.id := p->>'id';
    k.created_at := clock_timestamp();
    k.created_by := p->'act'->>'actor';
    -- By name, so that a column which a later migration adds gets its default. The id is the caller's: sent twice, made once.
    INSERT INTO api_key (id, name, scopes, monthly_budget_usd, requests_per_minute, tokens_per_minute, allowed_models,
                         allowed_classifications, expires_at, tags, created_at, created_by)
    VALUES (k.id, k.name, k.scopes, k.monthly_budget_usd, k.requests_per_minute, k.tokens_per_minute, k.allowed_models,
            k.allowed_classifications, k.expires_at, k.tags, k.created_at, k.created_by)
    ON CONFLICT (id) DO NOTHING;
    IF FOUND THEN
        INSERT INTO api_key_secret (hash, key_id, prefix, created_at)
        VALUES (decode(p->'secret'->>'hash', 'hex'), k.id, p->'secret'->>'prefix', k.created_at);
        written := key_audit(p, 'key.created', NULL, key_json(k));
    END IF;
    RETURN key_show(p) || jsonb_build_object('written', written);
END $$;

-- Changes the fields that are named, and no others. NULL: no such key. p: {settings, id, changes, act}
CREATE FUNCTION key_update(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    was api_key;
    k api_key;
    written jsonb;
BEGIN
    SELECT * INTO was FROM api_key WHERE id = p->>'id' FOR UPDATE;
    IF NOT FOUND THEN RETURN NULL; END IF;
    -- Sent twice, and somebody else's change may have come between: the second time changes nothing.
    IF p ? 'resent' AND EXISTS (
        SELECT FROM audit a WHERE a.n > (SELECT h.n FROM audit_head h) - 1000 AND a.action = 'key.updated'
            AND a.request_id = p->'act'->>'request_id' AND a.after->>'id' = was.id
    ) THEN
        RETURN key_show(p) || jsonb_build_object('written', NULL);
    END IF;
    IF was.revoked_at IS NOT NULL THEN RETURN jsonb_build_object('refused', 'revoked'); END IF;
    k := jsonb_populate_record(was, (p->'changes') - '{id,created_at,created_by,revoked_at}'::text[]);
    IF k IS DISTINCT FROM was THEN
        UPDATE api_key SET
            name = k.name, scopes = k.scopes, monthly_budget_usd = k.monthly_budget_usd,
            requests_per_minute = k.requests_per_minute, tokens_per_minute = k.tokens_per_minute,
            allowed_models = k.allowed_models, allowed_classifications = k.allowed_classifications,
            expires_at = k.expires_at, tags = k.tags
        WHERE id = k.id;
        written := key_audit(p, 'key.updated', key_json(was), key_json(k));
    END IF;
    RETURN key_show(p) || jsonb_build_object('written', written);
END $$;

-- Ends a key for good; its row and its books stay. NULL: no such key. p: {settings, id, act}
CREATE FUNCTION key_revoke(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    was api_key;
    k api_key;
    written jsonb;
BEGIN
    SELECT * INTO was FROM api_key WHERE id = p->>'id' FOR UPDATE;
    IF NOT FOUND THEN RETURN NULL; END IF;
    IF was.revoked_at IS NULL THEN
        UPDATE api_key SET revoked_at = clock_timestamp() WHERE id = was.id RETURNING * INTO k;
        written := key_audit(p, 'key.revoked', key_json(was), key_json(k));
    END IF;
    RETURN key_show(p) || jsonb_build_object('written', written);
END $$;

-- Gives a key another secret; the newest of those that it has goes on for the overlap, any other ends now. NULL: no such
-- key. p: {settings, id, secret, overlap_seconds, act}
CREATE FUNCTION key_rotate(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    k api_key;
    before jsonb;
    overlap interval := make_interval(secs => (p->>'overlap_seconds')::double precision);
    last api_key_secret;
    written jsonb;
BEGIN
    SELECT * INTO k FROM api_key WHERE id = p->>'id' FOR UPDATE;
    IF NOT FOUND THEN RETURN NULL; END IF;
    IF EXISTS (SELECT FROM api_key_secret WHERE hash = decode(p->'secret'->>'hash', 'hex')) THEN
        RETURN key_show(p) || jsonb_build_object('written', NULL); -- sent twice
    END IF;
    IF k.revoked_at IS NOT NULL THEN RETURN jsonb_build_object('refused', 'revoked'); END IF;
    before := key_json(k);
    SELECT * INTO last FROM api_key_secret WHERE key_id = k.id ORDER BY created_at DESC LIMIT 1;
    DELETE FROM api_key_secret WHERE key_id = k.id AND (hash <> last.hash OR overlap <= interval '0');
    UPDATE api_key_secret SET expires_at = clock_timestamp() + overlap WHERE hash = last.hash;
    INSERT INTO api_key_secret (hash, key_id, prefix, created_at)
    VALUES (decode(p->'secret'->>'hash', 'hex'), k.id, p->'secret'->>'prefix',
            greatest(clock_timestamp(), last.created_at + interval '1 microsecond'));
    written := key_audit(p, 'key.rotated', before, key_json(k));
    RETURN key_show(p) || jsonb_build_object('written', written);
END $$;

-- Audits a call of an admin route that was refused: each one of a key that may not, and of callers without a valid key,
-- who can send any number, one an address and 60 in all within a minute. True when it was written.
-- p: {key_id?, act, asked: {method, path}, why}
CREATE FUNCTION admin_refused(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    recent bigint;
    same bigint;
BEGIN
    IF p->>'key_id' IS NULL THEN
        PERFORM pg_advisory_xact_lock(hashtext('fusewire.admin_refused'));
        SELECT count(*), count(*) FILTER (WHERE a.source_ip IS NOT DISTINCT FROM p->'act'->>'source_ip')
        INTO recent, same
        FROM audit a WHERE a.actor = 'unknown' AND a.at > clock_timestamp() - interval '1 minute';
        IF same > 0 OR recent >= 60 THEN RETURN 'false'; END IF;
    END IF;
    PERFORM key_audit(p, 'admin.refused', NULL, p->'asked' || jsonb_build_object('why', p->>'why'));
    RETURN 'true';
END $$;
