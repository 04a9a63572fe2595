-- The output cap that a call is reserved with: the caller's own, or a smaller one of which its answer won't notice.
--
-- A call holds its worst case until it ends. While that is a small part of the room, the caller's whole cap is
-- reserved. Else the cap is twice the size that all but one in a thousand answers of the same key and model have had,
-- and 2,048 at least. The longer the call has waited, the smaller it gets: at last it is the size that nine in ten
-- answers don't pass. To be cut off once in ten times is better than to be refused; and where the first in line has
-- waited long, all behind it have, so that nothing else has to measure how many there are. What is known picks the cap,
-- never the reservation: the cap that was picked is sent upstream, so the bound stays a bound.
--
-- Caps are picked from a coarse ladder of steps, 1, 2, 3, 4, 6, 8, 12, ..., so that they tell a caller nothing of the
-- budgets above its own.

-- Step n of the ladder, in tokens; n begins at 1.
CREATE OR REPLACE FUNCTION output_step(n integer) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN n <= 1 THEN 1::bigint WHEN n % 2 = 0 THEN 1::bigint << (n / 2) ELSE 3::bigint << (n / 2 - 1) END
$$;

-- The number of the smallest step that so many tokens (1 or more) don't pass.
CREATE OR REPLACE FUNCTION output_step_above(tokens bigint) RETURNS integer
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    doublings integer := length(ltrim(tokens::bit(64)::text, '0')) - 1;
BEGIN
    IF tokens <= 1 THEN RETURN 1; END IF;
    IF tokens = 1::bigint << doublings THEN RETURN 2 * doublings; END IF;
    RETURN 2 * doublings + CASE WHEN 2 * tokens <= 3::bigint << doublings THEN 1 ELSE 2 END;
END $$;

-- The largest cap of at most so many tokens that is the cap itself or a step, and not below the smallest; NULL: none.
CREATE OR REPLACE FUNCTION output_cap_within(cap bigint, smallest bigint, most numeric) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    n integer;
BEGIN
    IF most IS NULL OR cap <= most THEN RETURN cap; END IF;
    IF most < smallest THEN RETURN NULL; END IF;
    n := output_step_above(most::bigint);
    IF output_step(n) > most THEN n := n - 1; END IF;
    RETURN greatest(output_step(n), smallest);
END $$;

-- The share of past answers that a cap is to be enough for. waited: how much of its time the call has waited, 0 to 1;
-- NULL where it may not wait.
CREATE OR REPLACE FUNCTION output_share(waited numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN waited >= 0.8 THEN 0.9 WHEN waited >= 0.6 THEN 0.95 WHEN waited >= 0.4 THEN 0.98
                WHEN waited >= 0.2 THEN 0.99 WHEN waited >= 0.1 THEN 0.995 ELSE 0.999 END
$$;

-- The step, in tokens, that so many of this key's answers from a model don't pass (share: 0 to 1); of all keys' where
-- the key has fewer than 30; NULL where they have fewer, too.
CREATE OR REPLACE FUNCTION output_usual(of_provider text, of_model text, of_key text, share numeric) RETURNS bigint
LANGUAGE plpgsql STABLE AS $$
DECLARE
    owner text;
    total bigint;
    found_step integer;
BEGIN
    FOREACH owner IN ARRAY ARRAY[COALESCE(of_key, ''), ''] LOOP
        SELECT sum(s.calls) INTO total FROM output_size s
        WHERE s.provider = of_provider AND s.model = of_model AND s.key_id = owner;
        IF total >= 30 THEN
            SELECT c.n INTO found_step FROM (
                SELECT u.n, sum(sum(u.calls)) OVER (ORDER BY u.n) AS up_to
                FROM output_size s, unnest(s.sizes) WITH ORDINALITY u (calls, n)
                WHERE s.provider = of_provider AND s.model = of_model AND s.key_id = owner
                GROUP BY u.n) c
            WHERE c.up_to >= total * share ORDER BY c.n LIMIT 1;
            RETURN output_step(found_step);
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

-- Counts an answer of so many tokens ("size"; of one that its cap cut off, one more than the cap, since nobody knows
-- how long it would have been). At 2,000 answers the counts are halved, so that they follow a change.
CREATE OR REPLACE FUNCTION output_size_count(of_provider text, of_model text, owner text, in_slot smallint, size bigint,
                                             OUT counted integer)
LANGUAGE plpgsql AS $$
DECLARE
    step integer := least(output_step_above(size), 48);
BEGIN
    UPDATE output_size s SET calls = s.calls + 1, sizes[step] = s.sizes[step] + 1
    WHERE s.provider = of_provider AND s.model = of_model AND s.key_id = owner AND s.slot = in_slot
    RETURNING s.calls INTO counted;
    IF NOT FOUND THEN
        INSERT INTO output_size AS s (provider, model, key_id, slot, calls, sizes)
        VALUES (of_provider, of_model, owner, in_slot, 1,
                array_fill(0, ARRAY[step - 1]) || 1 || array_fill(0, ARRAY[48 - step]))
        ON CONFLICT (provider, model, key_id, slot) DO UPDATE SET calls = s.calls + 1, sizes[step] = s.sizes[step] + 1
        RETURNING s.calls INTO counted;
    ELSIF counted >= 2000 THEN
        UPDATE output_size s SET
            sizes = ARRAY(SELECT u.calls / 2 FROM unnest(s.sizes) WITH ORDINALITY u (calls, n) ORDER BY u.n),
            calls = (SELECT sum(u.calls / 2) FROM unnest(s.sizes) u (calls))
        WHERE s.provider = of_provider AND s.model = of_model AND s.key_id = owner AND s.slot = in_slot;
    END IF;
END $$;

-- How long a settled answer was, where that is counted.
CREATE OR REPLACE FUNCTION output_size_of(e ledger, settlement jsonb) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
    IF e.operation <> 'chat' OR e.cost_basis IS DISTINCT FROM 'actual' THEN RETURN NULL; END IF;
    RETURN (settlement->>'size')::bigint;
END $$;

-- Counts answers of several calls, or of one. A key's first answers count for the model, too, so that a new key begins
-- with what is known, and a busy one changes no row but its own. All keys' rows come before all models' rows: that is
-- their place in the lock order (windows.sql), however many a transaction has.
CREATE OR REPLACE FUNCTION output_size_record(entries ledger[], settlements jsonb[],
                                              in_slot smallint DEFAULT 0::smallint) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    answer record;
    of_model integer[] := '{}'; -- which of them count for their model
BEGIN
    FOR answer IN
        SELECT n, (entries[n]).provider, (entries[n]).model, (entries[n]).key_id, s.size
        FROM generate_subscripts(entries, 1) n, output_size_of(entries[n], settlements[n]) s (size)
        WHERE s.size IS NOT NULL ORDER BY 2, 3, 4
    LOOP
        IF answer.key_id IS NULL
           OR output_size_count(answer.provider, answer.model, answer.key_id, in_slot, answer.size) <= 30 THEN
            of_model := array_append(of_model, answer.n);
        END IF;
    END LOOP;
    FOR answer IN
        SELECT (entries[n]).provider, (entries[n]).model, output_size_of(entries[n], settlements[n]) AS size
        FROM unnest(of_model) n ORDER BY 1, 2
    LOOP
        PERFORM output_size_count(answer.provider, answer.model, '', in_slot, answer.size);
    END LOOP;
END $$;

-- A candidate with the cap, bound and tokens that it is reserved with. Without "fit" it stays as it is.
-- candidate: {provider, model, bound, tokens, fit?: {fixed, per_token, cap, min_cap, first_cap, fixed_tokens, n}, ...}:
-- bound = fixed + cap * per_token, tokens = fixed_tokens + n * cap; min_cap is the smallest cap of use, first_cap what
-- is sent while too few answers are known.
-- room: the least headroom of the budgets on the way, in USD; left_usd: the same with nothing in flight; tokens_left:
-- of the key's minute. Each is NULL where there is no limit. waited: how much of its time it has waited, 0 to 1; NULL
-- where it may not.
-- 1. The whole cap, while its bound is less than a tenth of the room; else twice the usual size, or the usual size of
--    ever fewer answers once it has waited a twentieth of its time.
-- 2. Where that never fits what is left of the window: the largest step that does, down to the usual size.
-- 3. The same for what is left of the key's tokens; and, for a call that has waited long enough, for the room.
CREATE OR REPLACE FUNCTION ledger_fit(candidate jsonb, key_id text, room numeric, left_usd numeric, tokens_left bigint,
                                      waited numeric) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
DECLARE
    fit jsonb := candidate->'fit';
    is_small boolean;
    whole bigint;
    fixed numeric;
    per_token numeric;
    smallest bigint;
    usual bigint;
    cap bigint;
BEGIN
    IF fit IS NULL THEN RETURN candidate; END IF;
    is_small := (candidate->>'bound')::numeric = 0 OR room IS NULL OR (candidate->>'bound')::numeric * 10 < room;
    IF is_small AND (tokens_left IS NULL OR (candidate->>'tokens')::bigint <= tokens_left) THEN RETURN candidate; END IF;
    whole := (fit->>'cap')::bigint; fixed := (fit->>'fixed')::numeric; per_token := (fit->>'per_token')::numeric;
    usual := output_usual(candidate->>'provider', candidate->>'model', key_id, output_share(waited));
    smallest := least(whole, greatest((fit->>'min_cap')::bigint, COALESCE(usual, least((fit->>'first_cap')::bigint / 2, 2048))));
    cap := CASE WHEN is_small THEN whole
           WHEN usual IS NULL THEN least(whole, greatest((fit->>'min_cap')::bigint, (fit->>'first_cap')::bigint))
           WHEN waited >= 0.05 THEN smallest
           ELSE least(whole, greatest((fit->>'min_cap')::bigint, 2 * usual, 2048)) END;
    IF per_token > 0 THEN
        cap := COALESCE(output_cap_within(cap, smallest, div(left_usd - fixed, per_token)), smallest);
    END IF;
    cap := COALESCE(output_cap_within(
        cap, smallest, div((tokens_left - (fit->>'fixed_tokens')::bigint)::numeric, (fit->>'n')::numeric)), smallest);
    IF COALESCE(waited >= 1, true) AND usual IS NOT NULL AND per_token > 0 THEN
        cap := COALESCE(output_cap_within(cap, smallest, div(room - fixed, per_token)), cap);
    END IF;
    IF cap >= whole THEN RETURN candidate; END IF;
    RETURN candidate || jsonb_build_object(
        'cap', cap, 'bound', fixed + cap * per_token,
        'tokens', (fit->>'fixed_tokens')::bigint + (fit->>'n')::bigint * cap);
END $$;

-- The cap of a reservation that stands, where it is smaller than the candidate's; NULL where it isn't.
CREATE OR REPLACE FUNCTION ledger_fitted_cap(candidate jsonb, entry_id uuid) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT NULLIF((l.tokens_bound - (candidate->'fit'->>'fixed_tokens')::bigint) / (candidate->'fit'->>'n')::bigint,
                  (candidate->'fit'->>'cap')::bigint)
    FROM ledger l WHERE l.id = entry_id AND candidate ? 'fit'
$$;
