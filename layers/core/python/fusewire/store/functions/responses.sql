-- What POST /responses keeps where AI_RESPONSES_RETENTION_HOURS says so. What was said comes here sealed, as base64; a
-- response belongs to the key that made it, and no other key finds it. One that has expired is never read, and deleted
-- by the next response that is kept, the budget API or a reset.

-- Deletes up to so many that have expired, the oldest first. One that another session holds is left to it.
CREATE OR REPLACE FUNCTION response_sweep(most integer) RETURNS void
LANGUAGE sql VOLATILE AS $$
    DELETE FROM kept_response WHERE (key_id, id) IN (
        SELECT key_id, id FROM kept_response WHERE expires_at <= clock_timestamp()
        ORDER BY expires_at LIMIT most FOR UPDATE SKIP LOCKED)
$$;

-- Keeps one. Sent twice, it is kept once.
-- p: {key_id, id, previous_id, sealed, size, seconds}
CREATE OR REPLACE FUNCTION response_keep(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
BEGIN
    PERFORM response_sweep(100);
    INSERT INTO kept_response (key_id, id, previous_id, sealed, size, expires_at)
    VALUES (p->>'key_id', p->>'id', p->>'previous_id', decode(p->>'sealed', 'base64'), (p->>'size')::integer,
            clock_timestamp() + (p->>'seconds')::double precision * interval '1 second')
    ON CONFLICT DO NOTHING;
    RETURN '{}'::jsonb;
END $$;

-- A response and all that it goes on from, the first one first, and others by their ids. A chain whose beginning has
-- expired or was deleted ends with the response that names it as its previous one.
-- p: {key_id, last?: the id of the chain's last, ids: [others], max_bytes}
-- too_large: together they hold more than max_bytes, and none is returned.
CREATE OR REPLACE FUNCTION response_read(p jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
DECLARE
    now timestamptz := clock_timestamp();
    result jsonb;
    bytes bigint;
BEGIN
    WITH RECURSIVE chain AS (
        SELECT r.*, 1 AS place FROM kept_response r
        WHERE r.key_id = p->>'key_id' AND r.id = p->>'last' AND r.expires_at > now
        UNION ALL
        SELECT r.*, c.place + 1 FROM chain c
        JOIN kept_response r ON r.key_id = c.key_id AND r.id = c.previous_id AND r.expires_at > now
        WHERE c.place < 10000
    ), found AS (
        SELECT id, previous_id, sealed, size, place FROM chain
        UNION ALL
        SELECT r.id, r.previous_id, r.sealed, r.size, NULL FROM kept_response r
        WHERE r.key_id = p->>'key_id' AND r.expires_at > now
              AND r.id IN (SELECT jsonb_array_elements_text(p->'ids'))
    ), summed AS (
        SELECT COALESCE(sum(size), 0) AS bytes FROM found
    )
    SELECT s.bytes, CASE WHEN s.bytes <= (p->>'max_bytes')::bigint THEN (
        SELECT jsonb_build_object(
            'chain', COALESCE(jsonb_agg(f.row ORDER BY f.place DESC) FILTER (WHERE f.place IS NOT NULL), '[]'),
            'others', COALESCE(jsonb_agg(f.row) FILTER (WHERE f.place IS NULL), '[]'))
        FROM (SELECT place, jsonb_build_object(
                  'id', id, 'previous_id', previous_id, 'sealed', encode(sealed, 'base64')) AS row FROM found) f) END
    INTO bytes, result FROM summed s;
    RETURN COALESCE(result, jsonb_build_object('too_large', bytes));
END $$;

-- p: {key_id, id}
-- deleted: whether it was there, or the statement was sent before.
CREATE OR REPLACE FUNCTION response_delete(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
BEGIN
    DELETE FROM kept_response
    WHERE key_id = p->>'key_id' AND id = p->>'id' AND expires_at > clock_timestamp();
    RETURN jsonb_build_object('deleted', FOUND OR p ? 'resent');
END $$;
