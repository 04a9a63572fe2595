-- What a call holds and can't cost any more, given back while it goes on: a vendor that counts the input at the start
-- of a stream leaves the output alone to be bounded.

-- Whether it is worth a lock to give so much of an entry back, in USD: where calls wait, or where it is a hundredth of
-- the room of a budget on its way. Looked at without a lock.
CREATE OR REPLACE FUNCTION give_back_is_worthwhile(e ledger, amount numeric, settings jsonb) RETURNS boolean
LANGUAGE sql VOLATILE AS $$
    SELECT EXISTS (SELECT FROM admission_wait t WHERE t.alive_until > clock_timestamp())
           OR COALESCE(amount * 100 >= (SELECT min(admission_room(b.budget, settings)) FROM budget_window b
                                        WHERE b.id = ANY (ARRAY[e.window_id, e.key_window_id] || e.path_window_ids)),
                       false)
$$;

-- Lowers a pending reservation to what its call may still cost, in every budget that it was reserved in. It never
-- raises one, and leaves an entry alone that has ended. No state can change: that follows from what is spent. It waits
-- for a lock for a second at most: what isn't given back now is at the settlement.
-- p: {settings, id, bound, tokens}; the result's given_back is in USD.
CREATE OR REPLACE FUNCTION ledger_give_back(p jsonb) RETURNS jsonb
LANGUAGE plpgsql SET lock_timeout = '1s' AS $$
DECLARE
    settings jsonb := p->'settings';
    at_most numeric := (p->>'bound')::numeric;
    was ledger;
    closed_at timestamptz;
    in_slot boolean := false;
    key_in_row boolean;
    in_rows bigint[]; -- of the path's windows, those in whose slots it isn't
    amount numeric;
    spare_tokens bigint;
BEGIN
    SELECT * INTO was FROM ledger WHERE id = (p->>'id')::uuid;
    IF was.status IS DISTINCT FROM 'reserved' OR at_most >= was.bound
       OR NOT give_back_is_worthwhile(was, was.bound - at_most, settings) THEN
        RETURN jsonb_build_object('given_back', 0);
    END IF;
    IF was.slot IS NOT NULL THEN
        BEGIN
            PERFORM 1 FROM budget_slot s
            WHERE s.window_id = was.window_id AND s.slot = was.slot AND s.epoch = was.slot_epoch AND s.allocated > 0
            FOR UPDATE;
            in_slot := FOUND;
            -- A slot that was reclaimed while its lock was waited for is locked all the same, until this is taken back.
            IF NOT in_slot THEN RAISE SQLSTATE 'FW001'; END IF;
        EXCEPTION WHEN SQLSTATE 'FW001' THEN NULL;
        END;
    END IF;
    IF NOT in_slot THEN
        PERFORM ledger_join_queue(was.id);
        SELECT b.closed_at INTO closed_at FROM budget_window b WHERE b.id = was.window_id FOR NO KEY UPDATE;
        IF closed_at IS NOT NULL AND was.path_window_ids IS NOT NULL THEN PERFORM ledger_lock_out_paths(); END IF;
    END IF;
    in_rows := ARRAY(SELECT i FROM unnest(was.path_window_ids) i
                     WHERE (in_slot AND i = ANY (was.slotted_window_ids)) IS NOT TRUE);
    key_in_row := (in_slot AND was.key_window_id = ANY (was.slotted_window_ids)) IS NOT TRUE;
    PERFORM 1 FROM budget_window b WHERE b.id = was.key_window_id AND key_in_row FOR NO KEY UPDATE;
    PERFORM 1 FROM budget_window b WHERE b.id = ANY (in_rows) ORDER BY b.id FOR NO KEY UPDATE;
    SELECT * INTO was FROM ledger WHERE id = was.id FOR UPDATE; -- again: the locks may have been waited for
    amount := was.bound - at_most;
    spare_tokens := greatest(was.tokens_bound - (p->>'tokens')::bigint, 0);
    IF was.status <> 'reserved' OR amount <= 0 THEN RETURN jsonb_build_object('given_back', 0); END IF;
    UPDATE ledger SET bound = at_most, tokens_bound = was.tokens_bound - spare_tokens WHERE id = was.id;
    IF in_slot THEN
        UPDATE budget_slot s SET reserved = s.reserved - amount WHERE s.window_id = was.window_id AND s.slot = was.slot;
        PERFORM spread_book(was, was.slot, 0, amount, 0);
    ELSE
        UPDATE budget_window b SET reserved = b.reserved - amount WHERE b.id = was.window_id;
    END IF;
    UPDATE budget_window b SET
        reserved = b.reserved - amount,
        rate_tokens = b.rate_tokens - CASE
            WHEN (b.id = ANY (was.slotted_window_ids)) IS NOT TRUE AND was.reserved_at >= b.rate_window_started_at
            THEN spare_tokens ELSE 0 END
    WHERE b.id = was.key_window_id AND key_in_row;
    UPDATE budget_window b SET reserved = b.reserved - amount WHERE b.id = ANY (in_rows);
    PERFORM admission_wake_after(was, settings);
    RETURN jsonb_build_object('given_back', amount);
END $$;
