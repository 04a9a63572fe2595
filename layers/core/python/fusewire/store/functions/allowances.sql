-- What a model's server adds to a prompt, where a usage has shown that it is more than the bound allowed for.

-- Records the larger allowance that a settlement brings; only an administrator takes it back. The caller holds the entry's window, and
-- has reclaimed its slots: a reservation that is made after the commit reads the new allowance.
CREATE OR REPLACE FUNCTION input_allowance_raise(e ledger, settlement jsonb) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO input_allowance AS a (provider, model, tokens, raised_at, entry_id)
    SELECT e.provider, lower(e.model), (settlement->>'allowance')::bigint, clock_timestamp(), e.id
    WHERE e.id IS NOT NULL AND settlement ? 'allowance'
    ON CONFLICT (provider, model) DO UPDATE
    SET tokens = EXCLUDED.tokens, raised_at = EXCLUDED.raised_at, entry_id = EXCLUDED.entry_id
    WHERE a.tokens < EXCLUDED.tokens
$$;

-- The refusal of a candidate whose bound has a smaller allowance than the recorded one; NULL when it is large enough, or
-- not told, as by a release before this one.
-- candidate: {provider, model, allowance?, ...}
CREATE OR REPLACE FUNCTION input_allowance_refusal(candidate jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT jsonb_build_object('refused', 'allowance_raised', 'provider', a.provider, 'model', candidate->>'model',
                              'tokens', a.tokens)
    FROM input_allowance a
    WHERE a.provider = candidate->>'provider' AND a.model = lower(candidate->>'model')
      AND a.tokens > (candidate->>'allowance')::bigint);
END $$;

-- As it is shown. The call is the one whose usage has shown it, while the ledger has it.
CREATE OR REPLACE FUNCTION input_allowance_json(a input_allowance) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'id', a.provider || '/' || a.model, 'provider', a.provider, 'model', a.model, 'tokens', a.tokens,
        'raised_at', a.raised_at, 'request_id', (SELECT l.request_id FROM ledger l WHERE l.id = a.entry_id))
$$;

-- By provider and model. p: {limit, after?: an id}
CREATE OR REPLACE FUNCTION input_allowances(p jsonb) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT COALESCE(jsonb_agg(page.row ORDER BY page.id), '[]') FROM (
        SELECT (a.provider || '/' || a.model) COLLATE "C" AS id, input_allowance_json(a) AS row
        FROM input_allowance a
        WHERE p->>'after' IS NULL OR (a.provider || '/' || a.model) COLLATE "C" > p->>'after'
        ORDER BY 1 LIMIT (p->>'limit')::integer) page
$$;

-- Takes a raised allowance back, and returns what it was: the provider's own is in force again, until a usage shows that
-- it is too small. It is a change of prices (prices.sql), so that no environment goes on with the larger one that it
-- knows. NULL: there is none. With "written", the audit's before and after; NULL when nothing changed.
-- p: {settings, id, audit_context}
CREATE OR REPLACE FUNCTION input_allowance_remove(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    was jsonb;
    rolled_over jsonb;
    written jsonb;
BEGIN
    SELECT input_allowance_json(a) INTO was FROM input_allowance a WHERE a.provider || '/' || a.model = lower(p->>'id');
    IF FOUND THEN
        rolled_over := price_change(p->'settings');
        DELETE FROM input_allowance a WHERE a.provider || '/' || a.model = was->>'id'
        RETURNING input_allowance_json(a) INTO was;
    END IF;
    IF FOUND THEN
        written := audit_write(p, 'allowance.removed', was, was || jsonb_build_object('tokens', NULL));
    ELSIF p ? 'resent' THEN
        SELECT a.before INTO was FROM audit_head h JOIN audit a ON a.n > h.n - 1000
        WHERE a.action = 'allowance.removed' AND a.request_id = p->'audit_context'->>'request_id'
        ORDER BY a.n DESC LIMIT 1;
    ELSE
        was := NULL;
    END IF;
    RETURN was || jsonb_build_object('written', written, 'rolled_over', rolled_over);
END $$;
