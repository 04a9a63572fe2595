-- The prices that administrators set: which are in force, by Postgres' clock, and how they change.
--
-- A reservation is made at one version of them. Whoever changes a price holds the company's open window and its slots,
-- and so does whoever reserves: so a reservation that follows a change in the lock's order knows of it. A scheduled
-- price begins without a change: whoever knows the prices knows until when they hold.

-- What each model costs now: {version, until, prices: [{provider, model, entry}]}. until is when the next scheduled
-- price begins, or NULL. Of a model's prices that have begun the last one counts; names are compared without case.
CREATE OR REPLACE FUNCTION price_table() RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    at timestamptz := clock_timestamp();
BEGIN
    RETURN (SELECT jsonb_build_object(
        'version', v.version,
        'until', (SELECT min(p.effective_from) FROM price p WHERE p.removed_at IS NULL AND p.effective_from > at),
        'prices', (SELECT COALESCE(jsonb_agg(jsonb_build_object(
                        'provider', f.provider, 'model', f.model, 'entry', f.entry)), '[]')
                   FROM price_in_force(at) f))
    FROM price_version v);
END $$;

CREATE OR REPLACE FUNCTION price_in_force(at timestamptz) RETURNS SETOF price
LANGUAGE sql STABLE AS $$
    SELECT DISTINCT ON (p.provider, lower(p.model)) p.* FROM price p
    WHERE p.removed_at IS NULL AND p.effective_from <= at
    ORDER BY p.provider, lower(p.model), p.effective_from DESC, p.id DESC
$$;

-- The same for whoever asks without reserving. p: {}
CREATE OR REPLACE FUNCTION price_table_json(p jsonb) RETURNS jsonb
LANGUAGE sql VOLATILE AS $$
    SELECT price_table()
$$;

-- Whether a statement's bounds were computed with other prices than those in force. A caller that names no version knows
-- of no price here. p: {prices?: {version, until}}
CREATE OR REPLACE FUNCTION price_is_stale(p jsonb) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    now_version bigint;
BEGIN
    SELECT v.version INTO now_version FROM price_version v;
    RETURN now_version <> COALESCE((p->'prices'->>'version')::bigint, 0)
           OR COALESCE((p->'prices'->>'until')::timestamptz <= clock_timestamp(), false);
END $$;

-- A price with its status: staged, scheduled, in_force, superseded or removed.
CREATE OR REPLACE FUNCTION price_json(p price) RETURNS jsonb
LANGUAGE sql VOLATILE AS $$
    SELECT to_jsonb(p) || jsonb_build_object('status', CASE
        WHEN p.removed_at IS NOT NULL THEN 'removed'
        WHEN p.effective_from IS NULL THEN 'staged'
        WHEN p.effective_from > clock_timestamp() THEN 'scheduled'
        WHEN EXISTS (SELECT FROM price_in_force(clock_timestamp()) f WHERE f.id = p.id) THEN 'in_force'
        ELSE 'superseded' END)
$$;

-- Prices, the newest first. p: {limit, before?: an id, status?, provider?, model?}
CREATE OR REPLACE FUNCTION price_list(p jsonb) RETURNS jsonb
LANGUAGE sql VOLATILE AS $$
    SELECT jsonb_build_object(
        'version', (SELECT v.version FROM price_version v),
        'rows', (SELECT COALESCE(jsonb_agg(page.row ORDER BY page.id DESC), '[]') FROM (
            SELECT x.id, s.row FROM price x, LATERAL (SELECT price_json(x) AS row) s
            WHERE x.id < COALESCE((p->>'before')::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
                  AND (p->>'status' IS NULL OR s.row->>'status' = p->>'status')
                  AND (p->>'provider' IS NULL OR x.provider = p->>'provider')
                  AND (p->>'model' IS NULL OR lower(x.model) = lower(p->>'model'))
            ORDER BY x.id DESC LIMIT (p->>'limit')::integer) page))
$$;

-- Takes the locks under which prices change, or an allowance is taken back, and gives them another version: a time in microseconds, so that no version
-- comes again after a restore.
CREATE OR REPLACE FUNCTION price_change(settings jsonb, OUT rolled_over jsonb)
LANGUAGE plpgsql AS $$
BEGIN
    SELECT l.rolled_over INTO rolled_over FROM ledger_lock_window('global', settings, NULL) l;
    UPDATE price_version
    SET version = greatest(version + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint);
END $$;

-- The functions that change a price return it, with "written": the audit's before and after, NULL when nothing changed.
-- "refused" is past (what is booked stays: a price begins now or later), removed, or applied.

-- Adds a price, in force from now or from a time on; or stages it. What was staged before for the same model is removed,
-- or kept and returned where it says the same.
-- p: {settings, id, provider, model, entry, source, effective_from?, staged, audit_context}
CREATE OR REPLACE FUNCTION price_add(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    staged boolean := (p->>'staged')::boolean;
    starts timestamptz := (p->>'effective_from')::timestamptz;
    made price;
    rolled_over jsonb;
    written jsonb;
BEGIN
    IF staged THEN
        PERFORM 1 FROM price_version FOR UPDATE; -- one at a time, beside no reservation
    ELSE
        rolled_over := price_change(p->'settings');
    END IF;
    SELECT * INTO made FROM price x WHERE x.id = (p->>'id')::uuid;
    IF NOT FOUND AND staged THEN
        SELECT * INTO made FROM price x
        WHERE x.provider = p->>'provider' AND lower(x.model) = lower(p->>'model') AND x.effective_from IS NULL
              AND x.removed_at IS NULL AND x.entry = p->'entry' AND x.source = p->>'source';
    END IF;
    IF made.id IS NULL THEN
        IF starts < clock_timestamp() THEN
            RETURN jsonb_build_object('refused', 'past', 'rolled_over', rolled_over);
        END IF;
        IF staged THEN
            UPDATE price x SET removed_at = clock_timestamp(), removed_by = p->'audit_context'->>'actor'
            WHERE x.provider = p->>'provider' AND lower(x.model) = lower(p->>'model') AND x.effective_from IS NULL
                  AND x.removed_at IS NULL;
        END IF;
        INSERT INTO price (id, provider, model, entry, source, created_at, created_by, effective_from, applied_by)
        VALUES ((p->>'id')::uuid, p->>'provider', p->>'model', p->'entry', p->>'source', clock_timestamp(),
                p->'audit_context'->>'actor',
                CASE WHEN NOT staged THEN COALESCE(starts, clock_timestamp()) END,
                CASE WHEN NOT staged THEN p->'audit_context'->>'actor' END)
        RETURNING * INTO made;
        written := audit_write(p, CASE WHEN staged THEN 'price.staged' ELSE 'price.added' END, NULL, price_json(made));
    END IF;
    RETURN price_json(made) || jsonb_build_object('written', written, 'rolled_over', rolled_over);
END $$;

-- Applies a staged price, from now or from a time on. NULL: no such price.
-- p: {settings, id, effective_from?, audit_context}
CREATE OR REPLACE FUNCTION price_apply(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    starts timestamptz := (p->>'effective_from')::timestamptz;
    was price;
    made price;
    rolled_over jsonb;
    written jsonb;
BEGIN
    rolled_over := price_change(p->'settings');
    SELECT * INTO was FROM price x WHERE x.id = (p->>'id')::uuid FOR UPDATE;
    IF NOT FOUND THEN RETURN NULL; END IF;
    made := was;
    IF was.removed_at IS NOT NULL THEN
        RETURN jsonb_build_object('refused', 'removed', 'rolled_over', rolled_over);
    ELSIF was.effective_from IS NOT NULL AND NOT p ? 'resent' THEN
        RETURN jsonb_build_object('refused', 'applied', 'rolled_over', rolled_over);
    ELSIF was.effective_from IS NULL THEN
        IF starts < clock_timestamp() THEN
            RETURN jsonb_build_object('refused', 'past', 'rolled_over', rolled_over);
        END IF;
        UPDATE price x SET effective_from = COALESCE(starts, clock_timestamp()),
                           applied_by = p->'audit_context'->>'actor'
        WHERE x.id = was.id RETURNING x.* INTO made;
        written := audit_write(p, 'price.applied', to_jsonb(was), price_json(made));
    END IF;
    RETURN price_json(made) || jsonb_build_object('written', written, 'rolled_over', rolled_over);
END $$;

-- Ends a price: the one before it counts again, or what stands below. NULL: no such price.
-- p: {settings, id, audit_context}
CREATE OR REPLACE FUNCTION price_remove(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    was price;
    made price;
    rolled_over jsonb;
    written jsonb;
BEGIN
    rolled_over := price_change(p->'settings');
    SELECT * INTO was FROM price x WHERE x.id = (p->>'id')::uuid FOR UPDATE;
    IF NOT FOUND THEN RETURN NULL; END IF;
    made := was;
    IF was.removed_at IS NULL THEN
        UPDATE price x SET removed_at = clock_timestamp(), removed_by = p->'audit_context'->>'actor'
        WHERE x.id = was.id RETURNING x.* INTO made;
        written := audit_write(p, 'price.removed', to_jsonb(was), price_json(made));
    END IF;
    RETURN price_json(made) || jsonb_build_object('written', written, 'rolled_over', rolled_over);
END $$;
