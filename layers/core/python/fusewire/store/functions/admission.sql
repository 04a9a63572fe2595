-- Calls that wait for room: they would fit their budgets' limits, and calls in flight hold the headroom.
--
-- A call that is refused so takes a ticket, and asks again, by the same entry id, until it is admitted or gives up. It
-- holds no lock and no transaction in between. Tickets are drawn and looked at under the company's lock.
--
-- First come, first served, for each budget: a later call is admitted where there is room for it beside all that wait
-- for that budget before it. So nobody's admission is delayed by a later one, and a call that waits for another
-- budget (another team's) holds up nobody. One exception, so that a call of half a budget can't hold up everybody for
-- as long as it waits: after 5 seconds, calls of less than an eighth of its bound may pass it.
--
-- Who frees room notifies the first call in line that has room now. Who is admitted, or gives up, notifies the next. A
-- notification may be lost: each call asks again by itself, too, if less often.
--
-- Lock order: a row of admission_wait is changed by its own call alone; dead ones are deleted with SKIP LOCKED.

-- This transaction changes nothing but tickets, and may have moved what slots hold into their windows, both sides of it
-- or neither. That needn't be on the disk before it is answered: it is not until then
-- that its locks are given up, and many ask in vain while others wait for the same lock. A server that crashes may lose
-- the ticket; its call then draws another. Whatever is committed later and waits for the disk takes this with it.
CREATE OR REPLACE FUNCTION admission_need_not_last() RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
END $$;

-- USD that calls before this one wait for in a budget. entry_id: its own, which may have a ticket.
CREATE OR REPLACE FUNCTION admission_claim(budget text, own_entry uuid, bound numeric) RETURNS numeric
LANGUAGE sql VOLATILE AS $$
    SELECT COALESCE(sum(t.bound), 0) FROM admission_wait t
    WHERE t.blocked_by = budget AND t.alive_until > clock_timestamp()
      AND t.ticket < COALESCE((SELECT o.ticket FROM admission_wait o WHERE o.entry_id = own_entry), 9223372036854775807)
      AND NOT (t.bound > 8 * admission_claim.bound AND t.since < clock_timestamp() - interval '5 seconds')
$$;

-- What the budgets on a call's way leave for it, and the candidate as ledger_fit fits it into that.
-- p: as ledger_reserve's. names and rooms: where calls wait, of each budget with a limit, from the key up, what its
-- limit leaves beside what is spent and in flight, in USD.
CREATE OR REPLACE FUNCTION admission_offer(p jsonb, INOUT candidate jsonb, w budget_window, kw budget_window, k api_key,
                                           path jsonb, path_windows budget_window[], OUT names text[],
                                           OUT rooms numeric[])
LANGUAGE plpgsql AS $$
DECLARE
    bound numeric := (candidate->>'bound')::numeric;
    waits boolean := bound > 0 AND EXISTS (SELECT FROM admission_wait);
    limit_usd numeric := ledger_limit_in_force(w.limit_usd, p->'settings');
    left_usd numeric := least(limit_usd - w.spent, k.limit_usd - kw.spent);
    room numeric := least(limit_usd - w.spent - w.reserved, k.limit_usd - kw.spent - kw.reserved);
BEGIN
    IF NOT waits AND NOT candidate ? 'fit' THEN RETURN; END IF;
    IF k.limit_usd IS NOT NULL THEN
        names := ARRAY[k.id]; rooms := ARRAY[k.limit_usd - kw.spent - kw.reserved];
    END IF;
    FOR place IN 1..COALESCE(cardinality(path_windows), 0) LOOP
        CONTINUE WHEN path->(place - 1)->>'limit' IS NULL;
        left_usd := least(left_usd, (path->(place - 1)->>'limit')::numeric - (path_windows[place]).spent);
        names := names || (path_windows[place]).budget;
        rooms := rooms || ((path->(place - 1)->>'limit')::numeric
                           - (path_windows[place]).spent - (path_windows[place]).reserved);
        room := least(room, rooms[cardinality(rooms)]);
    END LOOP;
    IF waits THEN
        names := names || w.budget; rooms := rooms || (limit_usd - w.spent - w.reserved);
        SELECT least(room, min(b.has - admission_claim(b.name, (p->'entry'->>'id')::uuid, bound)))
        INTO room FROM unnest(names, rooms) b (name, has);
    END IF;
    candidate := ledger_fit(candidate, k.id, room, left_usd, k.tokens_per_minute - kw.rate_tokens,
                            (p->'wait'->>'waited_percent')::numeric / 100);
    IF NOT waits THEN names := NULL; END IF;
END $$;

-- The refusal, as ledger_refusal's, of a call that the budgets would admit, since others wait before it; NULL where it
-- may be admitted. A call that costs nothing waits for nobody.
CREATE OR REPLACE FUNCTION admission_refusal(candidate jsonb, own_entry uuid, names text[], rooms numeric[], path jsonb,
                                             path_windows budget_window[]) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    bound numeric := (candidate->>'bound')::numeric;
BEGIN
    IF names IS NULL THEN RETURN NULL; END IF;
    FOR place IN 1..cardinality(names) LOOP
        IF bound > rooms[place] - admission_claim(names[place], own_entry, bound) THEN
            RETURN jsonb_build_object('refused', 'reserved', 'by', names[place])
                   || ledger_path_budget_json(names[place], path, path_windows);
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

-- Has a call's session notified when there is room for it: {listens}; {} where it can't be. session: the process that
-- the client was told when it connected. Behind a pooler or RDS Proxy, which lends its connections for a transaction,
-- the statement runs in another one: to listen would keep that connection from all others, or tell whoever has it next.
CREATE OR REPLACE FUNCTION admission_listen(wait jsonb, own_entry uuid) RETURNS jsonb
LANGUAGE plpgsql AS $$
BEGIN
    IF (wait->>'session')::bigint IS DISTINCT FROM pg_backend_pid() THEN RETURN '{}'; END IF;
    EXECUTE format('LISTEN %I', 'fusewire_' || own_entry);
    UPDATE admission_wait t SET listens = true WHERE t.entry_id = own_entry AND NOT t.listens;
    RETURN jsonb_build_object('listens', true);
END $$;

-- The same for a call whose own statements run in other sessions. p: {id: the entry's, session}
CREATE OR REPLACE FUNCTION admission_subscribe(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
BEGIN
    PERFORM admission_need_not_last();
    RETURN admission_listen(p, (p->>'id')::uuid);
END $$;

-- This session listens no more for a call. p: as admission_subscribe's
CREATE OR REPLACE FUNCTION admission_unsubscribe(p jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('UNLISTEN %I', 'fusewire_' || (p->>'id'));
    RETURN '{}';
END $$;

-- Notifies the first call that waits for each of these budgets, where there seems to be room for it. NOTIFY takes a
-- lock of the whole server at its commit, so none is sent that would be in vain.
CREATE OR REPLACE FUNCTION admission_wake(names text[], settings jsonb) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    t admission_wait;
BEGIN
    FOR t IN
        SELECT DISTINCT ON (o.blocked_by) o.* FROM admission_wait o
        WHERE o.blocked_by = ANY (names) AND o.alive_until > clock_timestamp() ORDER BY o.blocked_by, o.ticket
    LOOP
        IF t.listens AND t.bound <= admission_room(t.blocked_by, settings) THEN
            PERFORM pg_notify('fusewire_' || t.entry_id, '');
        END IF;
    END LOOP;
END $$;

-- The same for the budgets of an entry that holds less than before.
CREATE OR REPLACE FUNCTION admission_wake_after(e ledger, settings jsonb) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM admission_wait t WHERE t.listens) THEN RETURN; END IF;
    PERFORM admission_wake(ARRAY['global'] || ARRAY(SELECT b.budget FROM budget_window b
                                             WHERE b.id = ANY (ARRAY[e.key_window_id] || e.path_window_ids)), settings);
END $$;

-- Gives a refused call its ticket, or keeps the one that it has: {ticket, listens?}. NULL where it may not wait: it
-- hasn't asked to, its time is over, or its key has as many waiting as it may.
-- wait: {max_per_key, lease_seconds, waited_percent: how much of its time it has waited, 0 to 100, holds?: true
-- where it has a ticket, last?: true where it asks for the last time, session?: as admission_listen's, listens?: true
-- where its session listens}
CREATE OR REPLACE FUNCTION admission_take(wait jsonb, entry jsonb, refusal jsonb, bound numeric) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    own_entry uuid := (entry->>'id')::uuid;
    of_key text := COALESCE(entry->>'key_id', '');
    alive timestamptz := clock_timestamp() + make_interval(secs => (wait->>'lease_seconds')::double precision);
    drawn bigint;
BEGIN
    IF wait IS NULL OR wait ? 'last' THEN RETURN NULL; END IF;
    UPDATE admission_wait t SET blocked_by = refusal->>'by', bound = admission_take.bound, asked_at = clock_timestamp(),
                                alive_until = alive
    WHERE t.entry_id = own_entry RETURNING t.ticket INTO drawn;
    IF drawn IS NULL THEN
        IF (SELECT count(*) FROM admission_wait t WHERE t.key_id = of_key AND t.alive_until > clock_timestamp())
           >= (wait->>'max_per_key')::integer THEN
            RETURN NULL;
        END IF;
        DELETE FROM admission_wait t WHERE t.entry_id IN (
            SELECT o.entry_id FROM admission_wait o WHERE o.alive_until < clock_timestamp() - interval '1 minute'
            LIMIT 100 FOR UPDATE SKIP LOCKED);
        INSERT INTO admission_wait AS t (entry_id, key_id, blocked_by, bound, since, asked_at, alive_until)
        VALUES (own_entry, of_key, refusal->>'by', bound, clock_timestamp(), clock_timestamp(), alive)
        RETURNING t.ticket INTO drawn;
    END IF;
    RETURN jsonb_build_object('ticket', drawn)
           || CASE WHEN wait ? 'listens' THEN '{}' ELSE admission_listen(wait, own_entry) END;
END $$;

-- Ends a call's wait, where it has one.
CREATE OR REPLACE FUNCTION admission_leave(wait jsonb, own_entry uuid) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM admission_wait t WHERE t.entry_id = own_entry;
    IF wait ? 'listens' AND (wait->>'session')::bigint = pg_backend_pid() THEN EXECUTE 'UNLISTEN *'; END IF;
END $$;

-- Gives up the place of a call whose caller has left, and has the next in line notified where there is room for it.
-- p: {settings, id: the entry's, wait: as admission_take's}
CREATE OR REPLACE FUNCTION admission_withdraw(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '5s' AS $$
DECLARE
    own_entry uuid := (p->>'id')::uuid;
    waited_for text := (SELECT t.blocked_by FROM admission_wait t WHERE t.entry_id = own_entry);
BEGIN
    PERFORM admission_need_not_last();
    PERFORM admission_leave(p->'wait', own_entry);
    IF waited_for IS NOT NULL THEN PERFORM admission_wake(ARRAY[waited_for], p->'settings'); END IF;
    RETURN '{}';
END $$;

-- What a budget's limit leaves beside what is spent and in flight, in USD, as it is without a lock. NULL where it has
-- no limit, or its window has to be looked at under the lock.
CREATE OR REPLACE FUNCTION admission_room(name text, settings jsonb) RETURNS numeric
LANGUAGE plpgsql STABLE AS $$
DECLARE
    w budget_window;
    held record;
BEGIN
    SELECT * INTO w FROM budget_window b WHERE b.budget = name AND b.closed_at IS NULL;
    IF w.id IS NULL OR w.resets_at <= clock_timestamp() THEN RETURN NULL; END IF;
    SELECT * INTO held FROM ledger_held_by_slots(w.id);
    RETURN CASE name WHEN 'global' THEN ledger_limit_in_force(w.limit_usd, settings) ELSE ledger_limit(name, settings) END
           - w.spent - w.reserved - held.spent - held.reserved;
END $$;

-- A waiting call's question whether it is worth asking under the lock: {refused, waiting} where it isn't, NULL where it
-- is. It is where there seems to be room for the call and all before it, where it asks for the last time, and otherwise
-- once a second, since an expired reservation is found under the lock alone.
CREATE OR REPLACE FUNCTION admission_look(p jsonb) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    own_entry uuid := (p->'entry'->>'id')::uuid;
    lease interval := make_interval(secs => (p->'wait'->>'lease_seconds')::double precision);
    t admission_wait;
    room numeric;
    claimed numeric;
BEGIN
    IF p->'wait' ? 'last' THEN RETURN NULL; END IF;
    SELECT * INTO t FROM admission_wait o WHERE o.entry_id = own_entry;
    IF t.entry_id IS NULL THEN RETURN NULL; END IF;
    claimed := admission_claim(t.blocked_by, own_entry, t.bound);
    IF claimed = 0 AND t.asked_at < clock_timestamp() - interval '1 second' THEN RETURN NULL; END IF;
    room := admission_room(t.blocked_by, p->'settings');
    IF room IS NULL OR t.bound + claimed <= room THEN RETURN NULL; END IF;
    PERFORM admission_need_not_last();
    IF t.alive_until < clock_timestamp() + lease / 2 THEN
        UPDATE admission_wait o SET alive_until = clock_timestamp() + lease WHERE o.entry_id = own_entry;
    END IF;
    RETURN jsonb_build_object('refused', 'reserved', 'waiting', true)
           || CASE WHEN p->'wait' ? 'listens' THEN '{}' ELSE admission_listen(p->'wait', own_entry) END;
END $$;

-- How many calls wait, for whichever budget, and for how long the first of them has: {calls, longest_seconds}.
CREATE OR REPLACE FUNCTION admission_json() RETURNS jsonb
LANGUAGE sql VOLATILE AS $$
    SELECT jsonb_build_object(
        'calls', count(*),
        'longest_seconds', COALESCE(round(extract(epoch FROM clock_timestamp() - min(t.since)), 3), 0))
    FROM admission_wait t WHERE t.alive_until > clock_timestamp()
$$;

-- How many calls wait for this budget.
CREATE OR REPLACE FUNCTION ledger_waiting(of_budget text) RETURNS bigint
LANGUAGE sql VOLATILE AS $$
    SELECT count(*) FROM admission_wait t WHERE t.blocked_by = of_budget AND t.alive_until > clock_timestamp()
$$;
