-- Refused calls, gathered by key, code and minute. They are recorded in the statement that refuses them, or that counts
-- them in their key's rate limit. A call that isn't refused pays nothing for this.
--
-- Lock order: a row of refused_call comes last, after audit_head.

-- Counts one refused call. was_sent: the statement is sent again, and may have counted this request already.
CREATE OR REPLACE FUNCTION refused_call_record(of_key text, of_code text, of_request text, was_sent boolean) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    at timestamptz := clock_timestamp();
    counted bigint;
BEGIN
    INSERT INTO refused_call AS r (id, key_id, code, minute, calls, last_at, last_request_id)
    VALUES ((left(ledger_id_at(at)::text, 18) || right(gen_random_uuid()::text, 18))::uuid, COALESCE(of_key, ''),
            of_code, date_trunc('minute', at, 'UTC'), 1, at, of_request)
    ON CONFLICT (key_id, code, minute) DO UPDATE SET
        calls = r.calls + 1, last_at = EXCLUDED.last_at, last_request_id = EXCLUDED.last_request_id
    WHERE NOT (was_sent AND r.last_request_id IS NOT DISTINCT FROM EXCLUDED.last_request_id)
    RETURNING r.calls INTO counted;
    IF counted = 1 THEN
        -- Whoever begins a row removes old ones: more than it adds, and few at a time.
        DELETE FROM refused_call WHERE id IN (
            SELECT o.id FROM refused_call o WHERE o.id < ledger_id_at(at - interval '30 days')
            ORDER BY o.id LIMIT 100 FOR UPDATE SKIP LOCKED);
    END IF;
END $$;

-- The code of the error that a caller gets for what ledger_reserve refuses; NULL where it isn't the caller's: all
-- providers are cooling down, or it is sent again with other bounds.
CREATE OR REPLACE FUNCTION ledger_refusal_code(refusal jsonb) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE refusal->>'refused'
        WHEN 'exceeded' THEN 'budget_exceeded'
        WHEN 'reserved' THEN 'budget_reserved'
        WHEN 'rate_limited' THEN 'rate_limit_exceeded'
        WHEN 'too_large' THEN 'invalid_request_error'
        WHEN 'repeated' THEN 'repeated_refusal'
        WHEN 'revoked' THEN 'invalid_api_key'
        WHEN 'no_user' THEN 'invalid_request_error'
    END
$$;

-- Counts a call that was refused before anything was asked of the ledger. p: {key_id, code, request_id}
CREATE OR REPLACE FUNCTION call_refused(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
BEGIN
    PERFORM refused_call_record(p->>'key_id', p->>'code', p->>'request_id', p ? 'resent');
    RETURN 'true';
END $$;

-- Refused calls, the newest first. p: {limit, before?: an id, key?, outcome?: a code, request_id?, from?, to?, within?}
CREATE OR REPLACE FUNCTION refused_calls(p jsonb) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT COALESCE(jsonb_agg(to_jsonb(page.r) ORDER BY (page.r).id DESC), '[]')
    FROM (SELECT r FROM refused_call r
          WHERE r.id < COALESCE((p->>'before')::uuid, 'ffffffff-ffff-ffff-ffff-ffffffffffff')
                AND (p->>'key' IS NULL OR r.key_id = p->>'key')
                AND (p->>'within' IS NULL
                     OR r.key_id = ANY ((SELECT scope_keys(scope_nodes(p->>'within')))::text[]))
                AND (p->>'outcome' IS NULL OR r.code = p->>'outcome')
                AND (p->>'request_id' IS NULL OR r.last_request_id = p->>'request_id')
                AND (p->>'from' IS NULL OR r.last_at >= (p->>'from')::timestamptz)
                AND (p->>'to' IS NULL OR r.minute < (p->>'to')::timestamptz)
          ORDER BY r.id DESC LIMIT (p->>'limit')::integer) page
$$;
