-- Keys as the admin API and the authorizer see them. As in windows.sql, a public function takes one jsonb object, is
-- one round trip, and may be sent twice. audit_context is {actor, source_ip, request_id}: who does it, from where, in
-- which request. secret is {hash, prefix}, the hash in hex: a secret itself never comes here.
--
-- Lock order: the company's window where a period is changed, the key's row, the row of the node that it is put under, the key's window, audit_head. The ledger's
-- statements read keys and never lock them.

-- Whether a key may call: it was not revoked and has not expired. True without a key (the bootstrap key has no row).
CREATE OR REPLACE FUNCTION key_is_active(k api_key) RETURNS boolean
LANGUAGE sql VOLATILE AS $$
    SELECT k.revoked_at IS NULL AND COALESCE(k.expires_at > clock_timestamp(), true)
$$;

-- A key by the names of its public fields, without its hashes.
CREATE OR REPLACE FUNCTION key_json(k api_key) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT to_jsonb(k) - 'limit_usd' || jsonb_build_object('monthly_budget_usd', k.limit_usd, 'secrets', (
        SELECT jsonb_agg(jsonb_build_object('prefix', s.prefix, 'created_at', s.created_at, 'expires_at', s.expires_at)
                         ORDER BY s.created_at)
        FROM api_key_secret s WHERE s.key_id = k.id))
$$;

-- The other way round: what an administrator may set, by the names of the columns.
CREATE OR REPLACE FUNCTION key_columns(fields jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT fields - '{id,created_at,created_by,revoked_at,monthly_budget_usd}'::text[] || CASE
        WHEN fields ? 'monthly_budget_usd' THEN jsonb_build_object('limit_usd', fields->'monthly_budget_usd')
        ELSE '{}' END
$$;

-- Writes the columns that the fields name, as key_columns, and leaves all others. Returns the row as it is stored. What
-- the table has no column for isn't written. At least one field must have a column.
CREATE OR REPLACE FUNCTION key_write(key_id text, fields jsonb) RETURNS api_key
LANGUAGE plpgsql AS $$
DECLARE
    k api_key;
    given jsonb := key_columns(fields);
    names text;
BEGIN
    SELECT string_agg(format('%I', a.attname), ', ') INTO names
    FROM pg_attribute a
    WHERE a.attrelid = 'api_key'::regclass AND a.attnum > 0 AND NOT a.attisdropped AND given ? a.attname;
    EXECUTE format('UPDATE api_key SET (%s) = (SELECT %s FROM jsonb_populate_record(NULL::api_key, $2)) WHERE id = $1'
                   ' RETURNING *', names, names)
    INTO STRICT k USING key_id, given;
    RETURN k;
END $$;

-- A key as key_json, with the window that its spending is in, NULL where it has none that is current.
CREATE OR REPLACE FUNCTION key_budget_json(k api_key, settings jsonb) RETURNS jsonb
LANGUAGE sql VOLATILE AS $$
    SELECT key_json(k) || jsonb_build_object('budget', (
        SELECT ledger_key_json(spread_whole(w), settings) FROM budget_window w
        WHERE w.budget = k.id AND w.closed_at IS NULL AND w.resets_at > clock_timestamp()))
$$;

-- Whose secret this is, as long as it is valid; NULL for every other reason alike. With request_id, the refused call of
-- a key that is revoked or has expired is counted. Scopes that are bound to a node are told to callers who know of bound
-- scopes: to others the key hasn't got them. p: {hash, request_id?, knows_bound?}
CREATE OR REPLACE FUNCTION key_authenticate(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    valid jsonb;
    known text;
BEGIN
    SELECT jsonb_build_object(
        'hash', encode(s.hash, 'hex'), 'id', k.id, 'scope_budget_id', k.scope_budget_id,
        'scopes', CASE WHEN k.scope_budget_id IS NULL OR p ? 'knows_bound' THEN k.scopes
                  ELSE array_remove(array_remove(k.scopes, 'admin'), 'read') END,
        'allowed_models', k.allowed_models,
        'allowed_classifications', k.allowed_classifications,
        'ends_in', extract(epoch FROM least(k.expires_at, s.expires_at) - clock_timestamp()))
    INTO valid
    FROM api_key_secret s JOIN api_key k ON k.id = s.key_id
    WHERE s.hash = decode(p->>'hash', 'hex') AND key_is_active(k)
          AND COALESCE(s.expires_at > clock_timestamp(), true);
    IF valid IS NULL AND p ? 'request_id' THEN
        SELECT s.key_id INTO known FROM api_key_secret s WHERE s.hash = decode(p->>'hash', 'hex');
        IF FOUND THEN
            PERFORM refused_call_record(known, 'invalid_api_key', p->>'request_id', p ? 'resent');
        END IF;
    END IF;
    RETURN valid;
END $$;

-- Counts a request that is refused before anything is reserved, in its key's rate limit; ledger_reserve counts those
-- that are admitted. With "look" it counts nothing. Sent twice, it counts twice. Returns {used_up, key}: whether the
-- limit was used up before it, and the key's budget as ledger_key_json, NULL for a key without such a limit.
-- With refusal, it is counted among the refused calls too: by its own code, or as rate limited where the limit was used
-- up. p: {settings, key_id, look?, refusal?: {code?, request_id}}
CREATE OR REPLACE FUNCTION key_count_refused(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    step record;
    k api_key;
    kw budget_window;
    used_up boolean;
    code text := p->'refusal'->>'code';
BEGIN
    SELECT * INTO k FROM api_key WHERE id = p->>'key_id';
    IF k.requests_per_minute IS NULL THEN
        IF code IS NOT NULL THEN
            PERFORM refused_call_record(p->>'key_id', code, p->'refusal'->>'request_id', p ? 'resent');
        END IF;
        RETURN jsonb_build_object('used_up', false, 'key', NULL);
    END IF;
    -- A period that is over is for the next reservation to roll over: its counters go on.
    SELECT * INTO kw FROM budget_window WHERE budget = k.id AND closed_at IS NULL FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        SELECT * INTO step FROM ledger_lock_window(k.id, p->'settings', NULL);
        kw := step.w;
    END IF;
    IF ledger_rate_window_ends_in(kw.rate_window_started_at) <= 0 THEN kw := ledger_begin_rate_window(kw); END IF;
    used_up := kw.rate_requests >= k.requests_per_minute;
    IF NOT used_up AND NOT p ? 'look' THEN
        UPDATE budget_window SET
            rate_window_started_at = kw.rate_window_started_at, rate_requests = kw.rate_requests + 1,
            rate_tokens = kw.rate_tokens
        WHERE id = kw.id RETURNING * INTO kw;
    END IF;
    IF p ? 'refusal' AND (used_up OR code IS NOT NULL) THEN
        PERFORM refused_call_record(
            k.id, CASE WHEN used_up THEN 'rate_limit_exceeded' ELSE code END, p->'refusal'->>'request_id', p ? 'resent');
    END IF;
    RETURN jsonb_build_object('used_up', used_up, 'key', ledger_key_json(spread_whole(kw), p->'settings'));
END $$;

-- One key with what its forecast is made of. p: {settings, id, within?}, within as in scopes.sql
CREATE OR REPLACE FUNCTION key_show(p jsonb) RETURNS jsonb
LANGUAGE sql VOLATILE AS $$
    SELECT key_budget_json(k, p->'settings')
           || jsonb_build_object('days', usage_days(k.id, p->'settings'->>'timezone'))
    FROM api_key k WHERE k.id = p->>'id' AND (p->>'within' IS NULL OR scope_has_node(k.budget_id, p->>'within'))
$$;

-- A key for its holder; NULL where it may call no longer. p: {settings, id}
CREATE OR REPLACE FUNCTION key_own(p jsonb) RETURNS jsonb
LANGUAGE sql VOLATILE AS $$
    SELECT key_budget_json(k, p->'settings') || jsonb_build_object(
        'scope_budget_name', (SELECT n.name FROM budget_node n WHERE n.id = k.scope_budget_id))
    FROM api_key k WHERE k.id = p->>'id' AND key_is_active(k)
$$;

-- Whether a key's name, its id, the beginning of a secret of it, or a tag holds the text. It is compared in small letters,
-- as text, so that no character of it means anything. wanted: in small letters
CREATE OR REPLACE FUNCTION key_holds(k api_key, wanted text) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT strpos(lower(k.name), wanted) > 0
        OR strpos(k.id, wanted) > 0
        OR EXISTS (SELECT FROM jsonb_each_text(k.tags) t
                   WHERE strpos(lower(t.key), wanted) > 0 OR strpos(lower(t.value), wanted) > 0)
        OR EXISTS (SELECT FROM api_key_secret s WHERE s.key_id = k.id AND strpos(lower(s.prefix), wanted) > 0)
$$;

-- The keys made before the one that the page before ended with, the newest first. search: of those alone that hold it
-- p: {settings, before?, limit, search?, within?}
CREATE OR REPLACE FUNCTION key_list(p jsonb) RETURNS jsonb
LANGUAGE sql VOLATILE AS $$
    SELECT COALESCE(jsonb_agg(key_budget_json(page.k, p->'settings') ORDER BY (page.k).id DESC), '[]')
    FROM (SELECT k FROM api_key k
          WHERE (p->>'before' IS NULL OR k.id < p->>'before')
                AND (p->>'within' IS NULL OR k.budget_id = ANY ((SELECT scope_nodes(p->>'within'))::text[]))
                AND (p->>'search' IS NULL OR key_holds(k, lower(p->>'search')))
          ORDER BY k.id DESC LIMIT (p->>'limit')::integer) page
$$;

-- The functions that change a key return it with "written": the audit's before and after, NULL when nothing changed.

-- "refused" is as scope_key_refusal. p: {settings, id, fields, secret, audit_context, within?}
CREATE OR REPLACE FUNCTION key_create(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    fields jsonb := scope_key_fields(p->'fields', p->>'within');
    k api_key := jsonb_populate_record(NULL::api_key, key_columns(fields));
    refusal text := scope_key_refusal(k, NULL, p->>'within');
    written jsonb;
BEGIN
    IF refusal IS NOT NULL THEN RETURN jsonb_build_object('refused', refusal); END IF;
    -- What may not stay empty, and what isn't an attribute; key_write adds the others. The id is the caller's: sent
    -- twice, made once.
    INSERT INTO api_key (id, name, scopes, created_at, created_by)
    VALUES (p->>'id', k.name, k.scopes, clock_timestamp(), p->'audit_context'->>'actor')
    ON CONFLICT (id) DO NOTHING;
    IF FOUND THEN
        k := key_write(p->>'id', fields);
        INSERT INTO api_key_secret (hash, key_id, prefix, created_at)
        VALUES (decode(p->'secret'->>'hash', 'hex'), k.id, p->'secret'->>'prefix', k.created_at);
        written := audit_write(p, 'key.created', NULL, key_json(k));
    END IF;
    RETURN key_show(p) || jsonb_build_object('written', written);
END $$;

-- Changes the fields that are named, and no others. A limit, a period and another node mean what they do for a node
-- (nodes.sql). NULL: no such key. "refused" is revoked, or as scope_key_refusal.
-- p: {settings, id, changes, audit_context, within?}
CREATE OR REPLACE FUNCTION key_update(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    was api_key;
    k api_key;
    refusal text;
    rolled_over jsonb;
    written jsonb;
BEGIN
    IF p->'changes' ? 'period' THEN
        -- Its users' windows end by another period, too, and nobody else may hold any of them.
        rolled_over := (ledger_lock_window('global', p->'settings', NULL)).rolled_over;
    END IF;
    SELECT * INTO was FROM api_key WHERE id = p->>'id' FOR UPDATE;
    IF NOT FOUND OR NOT scope_has_node(was.budget_id, p->>'within') THEN RETURN NULL; END IF;
    -- Sent twice, and somebody else's change may have come between: the second time changes nothing.
    IF p ? 'resent' AND EXISTS (
        SELECT FROM audit a WHERE a.n > (SELECT h.n FROM audit_head h) - 1000 AND a.action = 'key.updated'
            AND a.request_id = p->'audit_context'->>'request_id' AND a.after->>'id' = was.id
    ) THEN
        RETURN key_show(p) || jsonb_build_object('written', NULL);
    END IF;
    IF was.revoked_at IS NOT NULL THEN RETURN jsonb_build_object('refused', 'revoked'); END IF;
    k := jsonb_populate_record(was, key_columns(p->'changes'));
    refusal := scope_key_refusal(k, was, p->>'within');
    IF refusal IS NOT NULL THEN RETURN jsonb_build_object('refused', refusal, 'rolled_over', rolled_over); END IF;
    IF k IS DISTINCT FROM was THEN
        k := key_write(was.id, p->'changes');
        IF k.period <> was.period THEN PERFORM ledger_change_period(k.id, k.period, p->'settings'->>'timezone'); END IF;
        written := audit_write(p, 'key.updated', key_json(was), key_json(k));
    END IF;
    RETURN key_show(p) || jsonb_build_object('written', written, 'rolled_over', rolled_over);
END $$;

-- Ends a key for good. Its row and what it spent stay. NULL: no such key. "refused" is beyond
-- (scopes.sql). p: {settings, id, audit_context, within?}
CREATE OR REPLACE FUNCTION key_revoke(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    was api_key;
    k api_key;
    written jsonb;
BEGIN
    SELECT * INTO was FROM api_key WHERE id = p->>'id' FOR UPDATE;
    IF NOT FOUND OR NOT scope_has_node(was.budget_id, p->>'within') THEN RETURN NULL; END IF;
    IF NOT scope_governs(was, p->>'within') THEN RETURN jsonb_build_object('refused', 'beyond'); END IF;
    IF was.revoked_at IS NULL THEN
        UPDATE api_key SET revoked_at = clock_timestamp() WHERE id = was.id RETURNING * INTO k;
        written := audit_write(p, 'key.revoked', key_json(was), key_json(k));
    END IF;
    RETURN key_show(p) || jsonb_build_object('written', written);
END $$;

-- Gives a key another secret. The newest of those that it has goes on for the overlap, any other ends now. NULL: no
-- such key. "refused" is revoked or beyond.
-- p: {settings, id, secret, overlap_seconds, audit_context, within?}
CREATE OR REPLACE FUNCTION key_rotate(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    k api_key;
    before jsonb;
    overlap interval := make_interval(secs => (p->>'overlap_seconds')::double precision);
    last api_key_secret;
    written jsonb;
BEGIN
    SELECT * INTO k FROM api_key WHERE id = p->>'id' FOR UPDATE;
    IF NOT FOUND OR NOT scope_has_node(k.budget_id, p->>'within') THEN RETURN NULL; END IF;
    IF NOT scope_governs(k, p->>'within') THEN RETURN jsonb_build_object('refused', 'beyond'); END IF;
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
    written := audit_write(p, 'key.rotated', before, key_json(k));
    RETURN key_show(p) || jsonb_build_object('written', written);
END $$;
