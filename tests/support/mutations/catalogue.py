"""Every mutation, by the rule that it breaks. The same list is a table in docs/decisions, which a test compares."""

from typing import Final

from tests.support.mutations import Mutation

MUTATIONS: Final = (
    # --- 1. No call without a reservation ---
    Mutation(
        "output_cap_not_sent",
        1,
        "the output cap is reserved for and not sent to the provider",
        "fusewire.ai.providers.openai_compatible",
        (('return {"model": model, **fields, self.cap_field: output_cap}', 'return {"model": model, **fields}'),),
        "integration/ai/test_limits.py::test_the_settings_cap_is_sent_when_the_caller_names_none",
    ),
    Mutation(
        "bound_without_n",
        1,
        "n answers are reserved for as if they were one",
        "fusewire.ai.router",
        (("cap * (request.n or 1))", "cap)"),),
        "integration/ai/test_limits.py::test_n_answers_are_reserved_and_paid_n_times",
    ),
    Mutation(
        "bound_in_characters",
        1,
        "the input bound counts characters instead of bytes",
        "fusewire.budget.bounds",
        (('len(text.encode("utf-8", errors="surrogatepass"))', "len(text)"),),
        r"unit/budget/test_bounds.py::test_the_bytes_that_count_are_those_after_normalisation[\ufdfa-33]",
    ),
    Mutation(
        "bound_at_the_cheapest_rate",
        1,
        "the bound takes the cheapest input rate instead of the dearest",
        "fusewire.budget.pricing",
        (("dearest_input = max(", "dearest_input = min("),),
        "unit/budget/test_pricing.py::TestBound::test_an_unreachable_tier_is_not_reserved_for",
    ),
    Mutation(
        "bound_without_long_context_tiers",
        1,
        "the bound ignores the dearer rates of long contexts",
        "fusewire.budget.pricing",
        (
            (
                "return max([self.base, *(rate for start, rate in self.tiers if input_tokens > start)])",
                "return self.base",
            ),
        ),
        "unit/budget/test_pricing.py::TestBound::test_an_unreachable_tier_is_not_reserved_for",
    ),
    Mutation(
        "embeddings_reserve_nothing",
        1,
        "an embedding is bound at nothing",
        "fusewire.ai.router",
        (("bound = embedding_input_bound(request)", "bound = 0"),),
        "integration/ai/test_limits.py::test_vectors_without_usage_are_settled_at_their_bound",
    ),
    # --- 2. Admission ---
    Mutation(
        "no_lock",
        2,
        "the window is read without its lock",
        "ledger_lock_window",
        (("AND closed_at IS NULL FOR NO KEY UPDATE;", "AND closed_at IS NULL;"),),
        "integration/budget/test_concurrency.py::test_a_reservation_waits_for_one_under_way_and_counts_it",
    ),
    Mutation(
        "check_before_lock",
        2,
        "admission is decided on sums that were read before the lock was granted",
        "ledger_reserve_on_row",
        (
            (
                "SELECT * INTO step FROM ledger_lock_window('global', settings, NULL);\n    w := step.w;",
                "SELECT * INTO w FROM budget_window WHERE budget = 'global' AND closed_at IS NULL;\n"
                "    SELECT * INTO step FROM ledger_lock_window('global', settings, NULL);\n"
                "    IF w.id IS DISTINCT FROM (step.w).id THEN w := step.w; END IF;",
            ),
        ),
        "integration/budget/test_concurrency.py::test_a_reservation_waits_for_one_under_way_and_counts_it",
    ),
    Mutation(
        "reserved_not_counted",
        2,
        "admission looks at what is spent alone",
        "ledger_refusal",
        (("w.spent + w.reserved + bound > cap", "w.spent + bound > cap"),),
        "integration/budget/test_admission.py::test_the_last_cent_can_be_reserved_and_not_one_micro_cent_more",
    ),
    Mutation(
        "a_hair_over_the_limit",
        2,
        "admission rounds to the cent",
        "ledger_refusal",
        (("w.spent + w.reserved + bound > cap", "round(w.spent + w.reserved + bound, 2) > cap"),),
        "integration/budget/test_admission.py::test_the_last_cent_can_be_reserved_and_not_one_micro_cent_more",
    ),
    Mutation(
        "open_lets_in",
        2,
        "an OPEN breaker lets in what would still fit",
        "ledger_refusal",
        (("ledger_state(w.spent, cap, settings) = 'OPEN' OR ", ""),),
        "integration/budget/test_admission.py::test_an_open_breaker_refuses_what_would_still_fit",
    ),
    Mutation(
        "key_budget_not_checked",
        2,
        "what a key's calls hold is not counted against its budget",
        "ledger_refusal",
        (("kw.spent + kw.reserved + bound > k.monthly_budget_usd", "false"),),
        "integration/budget/test_keys.py::test_the_companys_reset_leaves_keys_windows_alone",
    ),
    Mutation(
        "key_window_not_booked",
        2,
        "what a key's calls cost is not added to its own window",
        "ledger_book_key",
        (("spent = spent + spends,", "spent = spent,"),),
        "integration/budget/test_keys.py::test_a_key_without_a_budget_is_counted_and_never_refused_by_itself",
    ),
    Mutation(
        "requests_a_minute_not_counted",
        2,
        "a key's requests a minute are not counted",
        "ledger_reserve_on_row",
        (("minute_requests = kw.minute_requests + (NOT p ? 'ending')::int", "minute_requests = kw.minute_requests"),),
        "integration/budget/test_rate_limits.py::test_requests_a_minute_from_the_first_call_on",
    ),
    Mutation(
        "tokens_a_minute_not_counted",
        2,
        "a key's tokens a minute are not held at their bound",
        "ledger_reserve_on_row",
        (("minute_tokens = kw.minute_tokens + tokens\n", "minute_tokens = kw.minute_tokens\n"),),
        "integration/budget/test_rate_limits.py::test_tokens_are_held_at_their_bound_and_given_back",
    ),
    Mutation(
        "slots_over_granted",
        2,
        "each slot is granted all of the room instead of its part",
        "ledger_grant",
        (("* 0.999 / slots, 12)", "* 0.999, 12)"),),
        "integration/budget/test_slots.py::test_what_is_granted_stays_below_the_alert_threshold",
    ),
    Mutation(
        "key_budget_not_checked_in_slots",
        2,
        "what is reserved in a slot is not checked against the key's budget",
        "ledger_reserve_in_slot",
        (
            (
                "IF ledger_refusal(NULL, kw, k, settings, bound, tokens, true) IS NOT NULL THEN RETURN NULL; END IF;",
                "",
            ),
        ),
        "integration/budget/test_slots.py::test_a_key_is_held_to_its_budget_in_every_slot",
    ),
    Mutation(
        "slots_not_gathered",
        2,
        "the window decides without what its slots hold",
        "ledger_lock_window",
        (("    w := ledger_gather(w);\n", ""),),
        "integration/budget/test_slots.py::test_the_last_cent_is_served_though_no_slot_has_room_for_it",
    ),
    Mutation(
        "slot_of_another_limit",
        2,
        "a slot that was granted under another limit serves on",
        "ledger_reserve_in_slot",
        (("\n      AND b.ceiling = (settings->>'limit')::numeric * (settings->>'alert')::numeric", ""),),
        "integration/budget/test_slots.py::test_a_slot_of_one_limit_serves_nobody_under_another",
    ),
    Mutation(
        "key_read_before_its_lock",
        2,
        "a call is held to its key as the key was before its window was waited for",
        "ledger_reserve_on_row",
        (
            (
                "        SELECT * INTO k FROM api_key WHERE id = k.id;"
                " -- again: its window's lock may have been waited for\n",
                "",
            ),
        ),
        "integration/budget/test_concurrency.py::test_a_call_is_held_to_its_key_as_it_is_when_its_window_is_free",
    ),
    Mutation(
        "slot_read_without_lock",
        2,
        "a slot that is being gathered serves on",
        "ledger_reserve_in_slot",
        (
            (
                "b.granted > 0\n      AND b.spent + b.reserved + bound <= b.granted",
                "EXISTS (SELECT FROM budget_slot o WHERE o.window_id = b.window_id AND o.slot = b.slot"
                " AND o.granted > 0 AND o.spent + o.reserved + bound <= o.granted)",
            ),
        ),
        "integration/budget/test_overlaps.py::test_two_of_which_one_is_held_before_its_commit[slots, expired]",
    ),
    # --- 3. Every reservation ends exactly once ---
    Mutation(
        "settled_twice",
        3,
        "an ending that is sent again is booked again",
        "ledger_end_entry",
        (("IF was.status <> 'reserved' AND was.outcome IS DISTINCT FROM 'expired' THEN", "IF false THEN"),),
        "integration/budget/test_exactly_once.py::test_the_first_end_counts",
    ),
    Mutation(
        "reserved_twice",
        3,
        "a reservation whose answer was lost is made again",
        "ledger_reserve_on_row",
        (
            ("WHERE l.id = (entry->>'id')::uuid AND c.value", "WHERE false AND c.value"),
            ("VALUES ((entry->>'id')::uuid, w.id", "VALUES (gen_random_uuid(), w.id"),
        ),
        "integration/budget/test_exactly_once.py::test_a_reserve_whose_answer_is_lost_reserves_once[after]",
    ),
    Mutation(
        "sent_call_released",
        3,
        "a call that timed out after it was sent is given back",
        "fusewire.ai.failures",
        (("_K.READ_TIMEOUT: Consequence(True, _S.BOUND,", "_K.READ_TIMEOUT: Consequence(True, _S.RELEASE,"),),
        "integration/ai/test_limits.py::test_everyone_hanging_is_out_of_time",
    ),
    Mutation(
        "expired_released",
        3,
        "an expired reservation is given back instead of settled at its bound",
        "ledger_expire",
        (
            ("status = 'settled', cost = bound, cost_basis = 'bound',", "status = 'released', cost = 0,"),
            ("ended_at = clock_timestamp(), day = ledger_day(w, settings)", "ended_at = clock_timestamp()"),
            ("PERFORM ledger_roll_up(e, 1);", ""),
            (
                "SET spent = spent + swept, reserved = reserved - swept, request_count = request_count + calls,",
                "SET reserved = reserved - swept,",
            ),
        ),
        "integration/budget/test_expiry.py::test_an_expired_reservation_is_settled_at_its_bound[budget]",
    ),
    Mutation(
        "expired_not_swept_by_a_reserve",
        3,
        "a reserve that needs room leaves expired reservations in it",
        "ledger_reserve_on_row",
        (
            (
                "SELECT * INTO step FROM ledger_expire(w, settings, sweep_id, NULL, crossings);\n"
                "        w := step.w; expired := step.expired; crossings := step.crossings;",
                "",
            ),
        ),
        "integration/budget/test_expiry.py::test_an_expired_reservation_is_settled_at_its_bound[reserve]",
    ),
    Mutation(
        "expired_not_looked_for",
        3,
        "what has expired within five seconds of the last sweep is not swept by a reserve",
        "ledger_reserve_on_row",
        (
            (
                " OR EXISTS (\n"
                "        SELECT FROM ledger l WHERE l.window_id = w.id AND l.status = 'reserved'\n"
                "        AND l.expires_at > w.swept_until AND l.expires_at <= clock_timestamp()\n"
                "    ) THEN",
                " THEN",
            ),
        ),
        "integration/budget/test_expiry.py::test_what_expires_right_after_a_sweep_is_swept_by_the_next_reserve",
    ),
    Mutation(
        "late_settlement_ignored",
        3,
        "an expired reservation stays at its bound whatever comes later",
        "ledger_end_entry",
        ((" AND was.outcome IS DISTINCT FROM 'expired' THEN", " THEN"),),
        "integration/budget/test_expiry.py::test_a_late_actual_settlement_corrects_the_bound[0.03]",
    ),
    Mutation(
        "late_settlement_added",
        3,
        "a late settlement is added to the bound that it corrects",
        "ledger_end_entry",
        (("spends := COALESCE(e.cost, 0) - COALESCE(was.cost, 0);", "spends := COALESCE(e.cost, 0);"),),
        "integration/budget/test_expiry.py::test_a_late_actual_settlement_corrects_the_bound[0.03]",
    ),
    Mutation(
        "unsent_call_kept_reserved",
        3,
        "a reservation that nothing was sent on is left to expire at its bound",
        "fusewire.budget.ledger",
        (('unsent.append({"ending": {"id": str(entry_id), "how": "release", "outcome": "not_sent"}})', "pass"),),
        "integration/budget/test_exactly_once.py::TestOutage::test_a_reservation_that_nothing_was_sent_on_is_released",
    ),
    Mutation(
        "unheard_ending_dropped",
        3,
        "an ending that Postgres didn't hear is not sent again",
        "fusewire.budget.ledger",
        (("                self._keep(arguments)\n", "                pass\n"),),
        "integration/budget/test_exactly_once.py::TestOutage::test_a_kept_ending_is_sent_with_the_next_call",
    ),
    Mutation(
        "no_usage_no_cost",
        3,
        "an answer that doesn't say what it used is booked at nothing",
        "fusewire.ai.attempts",
        (
            (
                "cost = self.option.price.cost(counts) if counts else None",
                "cost = self.option.price.cost(counts) if counts else Decimal(0)",
            ),
            ('"actual" if counts else "bound",', '"actual",'),
        ),
        "integration/ai/test_streams.py::test_an_answer_or_stream_without_usage_is_settled_at_its_bound",
    ),
    Mutation(
        "cache_writes_free",
        3,
        "tokens written to a provider's cache cost nothing",
        "fusewire.budget.pricing",
        (("total += (counts.cache_write_tokens - counts.cache_write_1h_tokens) * write.at(size)", "pass"),),
        "unit/budget/test_pricing.py::TestCost::test_each_kind_of_input_has_its_price",
    ),
    Mutation(
        "own_failure_loses_the_call",
        3,
        "a call that fails inside the gateway is never ended",
        "fusewire.ai.router",
        (("        except BaseException:\n            attempts.abandon()\n", "        except BaseException:\n"),),
        "integration/ai/test_limits.py::test_a_failure_of_our_own_in_mid_call_is_settled_at_its_bound",
    ),
    Mutation(
        "ended_by_two_at_once",
        3,
        "an ending is decided on the entry as it was before the lock was granted",
        "ledger_end_entry",
        (
            (
                "    SELECT * INTO was FROM ledger WHERE id = was.id FOR UPDATE;"
                " -- again: the lock may have been waited for\n",
                "",
            ),
        ),
        "integration/budget/test_overlaps.py::test_two_of_which_one_is_held_before_its_commit[below the threshold]",
    ),
    Mutation(
        "ended_in_a_slot_of_another_grant",
        3,
        "a reservation that was gathered is ended in its slot when that is granted anew",
        "ledger_end_in_slot",
        ((" AND b.epoch = was.slot_epoch", ""),),
        "integration/budget/test_slots.py::test_a_reservation_of_an_earlier_grant_ends_in_the_window",
    ),
    Mutation(
        "settled_twice_in_a_slot",
        3,
        "an entry that was ended while its slot was waited for is ended again",
        "ledger_end_row",
        ((" AND status = was.status", ""),),
        "integration/budget/test_overlaps.py::test_two_of_which_one_is_held_before_its_commit[slots, expired]",
    ),
    Mutation(
        "swept_past_the_slots",
        3,
        "what has expired in a slot is booked by the window without it",
        "ledger_expire_all",
        (("    PERFORM ledger_gather(b) FROM budget_window b WHERE b.id = ANY (stale);\n", ""),),
        "integration/budget/test_overlaps.py::test_two_of_which_one_is_held_before_its_commit[slots, expired]",
    ),
    # --- 4. A failed attempt's successor ---
    Mutation(
        "older_window_after_the_open_one",
        4,
        "a failover locks the open window first, and meets a sweep head on",
        "ledger_reserve_on_row",
        (
            (
                "        PERFORM 1 FROM budget_window\n"
                "        WHERE id = (SELECT window_id FROM ledger WHERE id = (p->'ending'->>'id')::uuid)"
                " FOR NO KEY UPDATE;\n",
                "        NULL;\n",
            ),
        ),
        "integration/budget/test_overlaps.py::test_two_of_which_one_is_held_at_a_lock[after a reset]",
    ),
    Mutation(
        "failover_in_two_statements",
        4,
        "a failed attempt is ended by a statement of its own",
        "fusewire.budget.ledger",
        (
            (
                'told = self._database.call("SELECT ledger_reserve($1::jsonb)", argument | ending)',
                "if ending:\n"
                "                self._end(ending)\n"
                '            told = self._database.call("SELECT ledger_reserve($1::jsonb)", argument)',
            ),
        ),
        "integration/ai/test_failover.py::test_an_attempt_more_is_one_round_trip_more",
    ),
    Mutation(
        "failed_attempt_not_ended",
        4,
        "the successor is reserved and the failed attempt is not ended",
        "fusewire.budget.ledger",
        (("ending = {} if after is None else _ending_arguments(after)", "ending: dict[str, object] = {}"),),
        "integration/budget/test_crossings.py::test_a_failover_and_a_bound_cross_like_a_settlement",
    ),
    # --- 5. States ---
    Mutation(
        "open_above_its_threshold",
        5,
        "the breaker opens above 95 % instead of at it",
        "ledger_state",
        (("spent >= cap * (settings->>'open')::numeric", "spent > cap * (settings->>'open')::numeric"),),
        "integration/budget/test_crossings.py::test_states_at_their_exact_thresholds",
    ),
    Mutation(
        "crossing_told_twice",
        5,
        "a crossing is not remembered, so the next statement tells it again",
        "ledger_record_state",
        (("    UPDATE budget_window SET state = now_state WHERE id = w.id;\n", ""),),
        "integration/budget/test_crossings.py::test_32_settlements_that_cross_at_once_tell_it_once",
    ),
    Mutation(
        "crossing_told_by_a_repeated_ending",
        5,
        "an ending that is repeated tells its crossing again",
        "ledger_end_on_row",
        (
            (
                "IF NOT step.repeated OR p ? 'resent' THEN crossings := step.crossings; END IF;",
                "crossings := step.crossings;",
            ),
        ),
        "integration/budget/test_crossings.py::test_a_settlement_that_is_repeated_tells_nothing_again",
    ),
    Mutation(
        "reserved_crosses",
        5,
        "what is only reserved counts towards the state",
        "ledger_record_state",
        (("now_state text := ledger_state(w.spent, cap", "now_state text := ledger_state(w.spent + w.reserved, cap"),),
        "integration/budget/test_crossings.py::test_what_is_reserved_crosses_nothing",
    ),
    Mutation(
        "limit_from_elsewhere",
        5,
        "settlements take the limit from the last crossing instead of the settings",
        "ledger_cap",
        (
            (
                "RETURN (settings->>'limit')::numeric;",
                "RETURN COALESCE((SELECT c.limit_usd FROM budget_crossing c ORDER BY c.crossed_at LIMIT 1),"
                " (settings->>'limit')::numeric);",
            ),
        ),
        "integration/budget/test_crossings.py::test_a_raised_limit_lowers_the_state_and_crossing_again_is_a_new_event",
    ),
    # --- 6. Windows ---
    Mutation(
        "reset_loses_reservations",
        6,
        "a reset forgets what the closed window has reserved",
        "ledger_turn_window",
        (
            (
                "UPDATE budget_window SET closed_at = at WHERE",
                "UPDATE budget_window SET closed_at = at, reserved = 0 WHERE",
            ),
        ),
        "integration/budget/test_keys.py::test_a_keys_reset_while_its_calls_are_in_flight",
    ),
    Mutation(
        "settled_in_the_wrong_window",
        6,
        "a settlement goes to the open window instead of its own",
        "ledger_end_entry",
        (
            (
                "SELECT * INTO w FROM budget_window WHERE id = was.window_id FOR",
                "SELECT * INTO w FROM budget_window WHERE budget = 'global' AND closed_at IS NULL FOR",
            ),
        ),
        "integration/budget/test_windows.py::"
        "test_reserved_before_the_months_end_and_settled_after_it[UTC-2026-11-01T00:00]",
    ),
    Mutation(
        "rollup_of_the_wrong_window",
        6,
        "the rollups don't tell one window from another",
        "ledger_roll_up",
        (("VALUES (e.window_id, e.day", "VALUES ((SELECT max(id) FROM budget_window), e.day"),),
        "integration/budget/test_windows.py::test_reserved_before_the_months_end_and_settled_after_it[UTC-2026-11-01T00:00]",
    ),
    Mutation(
        "rollup_not_taken_back",
        6,
        "a correction leaves the bound in the rollups",
        "ledger_end_entry",
        (("IF was.status = 'settled' THEN PERFORM ledger_roll_up(was, -1); END IF;", ""),),
        "integration/budget/test_expiry.py::test_a_late_release_gives_the_bound_back",
    ),
    Mutation(
        "month_never_ends",
        6,
        "without the schedule a window outlives its month",
        "ledger_lock_window",
        (("IF w.resets_at <= clock_timestamp() THEN", "IF false THEN"),),
        "integration/budget/test_windows.py::test_months_without_use_leave_one_window",
    ),
    Mutation(
        "month_ends_in_utc",
        6,
        "the month ends in UTC whatever the time zone",
        "ledger_month_end",
        (
            (
                "(date_trunc('month', at AT TIME ZONE tz) + interval '1 month') AT TIME ZONE tz",
                "(date_trunc('month', at AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC'",
            ),
        ),
        "integration/budget/test_windows.py::test_the_month_ends_in_the_budgets_time_zone",
    ),
    Mutation(
        "late_money_in_the_new_month",
        6,
        "what is settled after the month's end is counted on a day of the next",
        "ledger_day",
        (("least(clock_timestamp(), w.resets_at - interval '1 microsecond')", "clock_timestamp()"),),
        "integration/budget/test_windows.py::test_reserved_before_the_months_end_and_settled_after_it[UTC-2026-11-01T00:00]",
    ),
    Mutation(
        "schedule_resets_twice",
        6,
        "a schedule that is delivered twice resets twice",
        "ledger_reset",
        (("IF p->>'why' = 'schedule' AND (", "IF false AND ("),),
        "integration/budget/test_windows.py::TestSchedule::test_twice_in_a_minute_resets_once",
    ),
    # --- 7. No ledger, no call ---
    Mutation(
        "no_ledger_still_a_call",
        7,
        "without the ledger the first candidate is called unreserved",
        "fusewire.budget.ledger",
        (
            (
                "            self._keep(*unsent)\n            raise\n",
                '            told = {"candidate": 0, "cooling": [], "key": None, "budget": {"id": 0,'
                ' "budget": "global", "opened_by": "use", "opened_at": "2026-01-01T00:00:00Z",'
                ' "resets_at": "2027-01-01T00:00:00Z",'
                ' "closed_at": None, "spent": 0, "reserved": 0, "request_count": 0, "state": "CLOSED"}}\n',
            ),
        ),
        "integration/functions/test_complete.py::test_without_the_ledger_nothing_is_forwarded",
    ),
    # --- 8. Never a float ---
    Mutation(
        "float_money_in_postgres",
        8,
        "a settlement is added in floating point",
        "ledger_end_entry",
        (("SET spent = spent + spends,", "SET spent = (spent::float8 + spends::float8)::numeric,"),),
        "integration/budget/test_money.py::test_any_amounts_add_up_to_the_last_digit",
    ),
    Mutation(
        "float_money_in_python",
        8,
        "amounts are read from Postgres as floats",
        "fusewire.json",
        (("json.JSONDecoder(parse_float=Decimal)", "json.JSONDecoder()"),),
        "integration/budget/test_money.py::test_any_amounts_add_up_to_the_last_digit",
    ),
    # --- 9. Streams and embeddings ---
    Mutation(
        "stream_not_read_after_hang_up",
        9,
        "a stream is no longer read once its caller hung up",
        "fusewire.runtime.loop",
        (
            (
                "                stream.write(chunk)\n",
                "                stream.write(chunk)\n                if stream._lost:\n                    break\n",
            ),
        ),
        "integration/runtime/test_loop_failures.py::test_the_iterator_is_exhausted_though_the_platform_hangs_up",
    ),
    Mutation(
        "broken_stream_released",
        9,
        "a stream that breaks after its first content is given back",
        "fusewire.ai.failures",
        (
            (
                "_K.STREAM_BROKEN_LATE: Consequence(False, _S.BOUND,",
                "_K.STREAM_BROKEN_LATE: Consequence(False, _S.RELEASE,",
            ),
        ),
        "integration/ai/test_streams.py::"
        "test_a_stream_that_breaks_after_content_is_settled_and_nobody_else_answers[ends early]",
    ),
    Mutation(
        "abandoned_stream_not_settled",
        9,
        "a stream that is given up in its middle is never ended",
        "fusewire.ai.router",
        (
            (
                "    except BaseException:\n        attempts.abandon()\n        raise\n    booked",
                "    except BaseException:\n        raise\n    booked",
            ),
        ),
        "integration/ai/test_streams.py::test_hanging_up_in_mid_stream_is_settled_at_the_bound",
    ),
    # --- 10. No price, no call ---
    Mutation(
        "unpriced_model_free",
        10,
        "a model without a price costs nothing",
        "fusewire.budget.pricing",
        (("            raise ModelNotPricedError(provider, model)\n", "            return _FREE\n"),),
        "integration/ai/test_limits.py::test_a_model_without_a_price_is_refused_before_a_byte_is_sent",
    ),
)
