-- What the environments share about the providers, and what the health route asks.

-- Records what an attempt's end says of its provider. began: when the attempt was reserved.
-- health_update: {provider, effect: ok|note|count|now, seconds, threshold, max_seconds, kind, message}
--   ok     the provider answered: failures and cooldown are forgotten
--   note   a failure worth showing that doesn't count (a model's name that isn't known there)
--   count  one more failure in a row; from the threshold on each opens a cooldown that doubles, up to max_seconds
--   now    cool down at once (the provider said when to come back, or rejected the credential)
-- An attempt that began before the last cooldown opened says little: of 32 calls in flight when a provider fails, one
-- opens the cooldown. The others don't double it, and don't end it when they succeed. Returns the end of the cooldown
-- that this very failure opened, if it did.
CREATE OR REPLACE FUNCTION provider_health_record(health_update jsonb, began timestamptz) RETURNS timestamptz
LANGUAGE plpgsql AS $$
DECLARE
    h provider_health;
    effect text := health_update->>'effect';
    seconds double precision;
    threshold integer;
    stale boolean;
    until timestamptz;
BEGIN
    IF effect = 'ok' AND EXISTS (
        SELECT FROM provider_health p
        WHERE p.provider = health_update->>'provider' AND p.last_success_at > clock_timestamp() - interval '5 seconds'
              AND ((p.consecutive_failures = 0 AND p.cooldown_until IS NULL) OR began < p.cooled_at)
    ) THEN
        RETURN NULL; -- most successes change nothing worth a lock: the time of the last one is kept to within 5 s
    END IF;
    INSERT INTO provider_health (provider) VALUES (health_update->>'provider') ON CONFLICT (provider) DO NOTHING;
    SELECT * INTO h FROM provider_health WHERE provider = health_update->>'provider' FOR UPDATE;
    stale := COALESCE(began < h.cooled_at, false);
    IF effect = 'ok' THEN
        UPDATE provider_health SET
            last_success_at = clock_timestamp(),
            consecutive_failures = CASE WHEN stale THEN consecutive_failures ELSE 0 END,
            cooldown_until = CASE WHEN stale THEN cooldown_until END
        WHERE provider = h.provider;
        RETURN NULL;
    END IF;
    UPDATE provider_health SET
        consecutive_failures = consecutive_failures + (effect <> 'note' AND NOT stale)::int,
        last_failure_at = clock_timestamp(), last_failure_kind = health_update->>'kind',
        last_failure_message = health_update->>'message'
    WHERE provider = h.provider RETURNING * INTO h;
    IF effect = 'note' THEN RETURN NULL; END IF;
    seconds := (health_update->>'seconds')::double precision;
    threshold := (health_update->>'threshold')::integer;
    IF effect = 'count' THEN
        IF stale OR h.consecutive_failures < threshold THEN RETURN NULL; END IF;
        seconds := least(seconds * 2.0 ^ least(h.consecutive_failures - threshold, 20),
                         (health_update->>'max_seconds')::double precision);
    END IF;
    until := clock_timestamp() + make_interval(secs => seconds);
    IF stale AND h.cooldown_until >= until THEN RETURN NULL; END IF;
    UPDATE provider_health SET cooldown_until = until, cooled_at = clock_timestamp() WHERE provider = h.provider;
    RETURN until;
END $$;

-- Counts what a vendor refused for a reason that nobody lists ("refusal"), by key and model, and forgets it when the
-- model answers, or after 10 minutes without another. From the threshold on, each refusal keeps the key from the model
-- for so many seconds. What costs nothing isn't counted.
-- settlement: {refusal?: {threshold, seconds}, ...}
CREATE OR REPLACE FUNCTION vendor_refusal_record(e ledger, settlement jsonb) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    threshold integer := (settlement->'refusal'->>'threshold')::integer;
    seconds double precision := (settlement->'refusal'->>'seconds')::double precision;
    old timestamptz := clock_timestamp() - interval '10 minutes';
BEGIN
    IF e.outcome = 'success' THEN
        DELETE FROM vendor_refusal v
        WHERE v.key_id = COALESCE(e.key_id, '') AND v.provider = e.provider AND v.model = e.model;
        RETURN;
    END IF;
    IF threshold IS NULL OR e.bound = 0 THEN RETURN; END IF;
    INSERT INTO vendor_refusal AS v (key_id, provider, model, refusals, refused_at)
    VALUES (COALESCE(e.key_id, ''), e.provider, e.model, 1, clock_timestamp())
    ON CONFLICT (key_id, provider, model) DO UPDATE SET
        refusals = CASE WHEN v.refused_at < old THEN 1 ELSE v.refusals + 1 END, refused_at = clock_timestamp();
    UPDATE vendor_refusal v SET until = clock_timestamp() + make_interval(secs => seconds)
    WHERE v.key_id = COALESCE(e.key_id, '') AND v.provider = e.provider AND v.model = e.model
      AND v.refusals >= threshold;
    -- A caller may choose a model's name: names that aren't asked for any more must not pile up. This waits for nobody,
    -- so that the row above is the only one that a statement waits for.
    DELETE FROM vendor_refusal v WHERE v.ctid = ANY (ARRAY(
        SELECT o.ctid FROM vendor_refusal o WHERE o.refused_at < old LIMIT 10 FOR UPDATE SKIP LOCKED));
END $$;

-- Why a call to a model may not be reserved, because a vendor refused the key's last ones; NULL where it may.
-- candidate: {provider, model, bound, ...}
CREATE OR REPLACE FUNCTION vendor_refusal_of(entry jsonb, candidate jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT jsonb_build_object(
        'refused', 'repeated', 'by', v.key_id, 'provider', v.provider, 'model', v.model, 'refusals', v.refusals,
        'retry_after', ceil(extract(epoch FROM v.until - clock_timestamp()))::integer)
    FROM vendor_refusal v
    WHERE v.key_id = COALESCE(entry->>'key_id', '') AND v.provider = candidate->>'provider'
      AND v.model = candidate->>'model' AND v.until > clock_timestamp() AND (candidate->>'bound')::numeric > 0
      AND entry->>'operation' <> 'probe');
END $$;

-- What every environment has recorded of the providers, by name.
CREATE OR REPLACE FUNCTION provider_health_json(p jsonb) RETURNS jsonb
LANGUAGE sql STABLE AS $$
    SELECT COALESCE(jsonb_object_agg(h.provider, to_jsonb(h) - 'provider'), '{}') FROM provider_health h
$$;

-- For the health route: whether a call can be booked. A full disk, or a server that only reads, still answers queries.
CREATE OR REPLACE FUNCTION ledger_probe(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
BEGIN
    INSERT INTO health_probe (page) VALUES (repeat('x', 8000));
    RAISE SQLSTATE 'FW002';
EXCEPTION
    WHEN SQLSTATE 'FW002' THEN RETURN '{}';
END $$;

-- Reachable, and migrated. The release before asks it for its health route.
CREATE OR REPLACE FUNCTION ledger_ping(p jsonb) RETURNS jsonb
LANGUAGE sql IMMUTABLE AS $$
    SELECT '{}'::jsonb
$$;
