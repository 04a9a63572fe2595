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
        (
            (
                "return {**fields, self.cap_field: output_cap}",
                "return {**fields}",
            ),
        ),
        "integration/ai/test_limits.py::test_the_settings_cap_is_sent_when_the_caller_names_none",
    ),
    Mutation(
        "bound_without_n",
        1,
        "n answers are reserved for as if they were one",
        "fusewire.ai.output_caps",
        (("            billed * n,\n", "            billed,\n"),),
        "integration/ai/test_limits.py::test_n_answers_are_reserved_and_paid_n_times",
    ),
    Mutation(
        "bound_in_characters",
        1,
        "the input bound counts characters instead of bytes",
        "fusewire.ai.text_bounds",
        (('len(text.encode("utf-8", errors="surrogatepass"))', "len(text)"),),
        r"unit/ai/test_bounds.py::test_the_bytes_that_count_are_those_after_normalisation[\ufdfa-33]",
    ),
    Mutation(
        "escapes_not_bounded",
        1,
        "the input bound takes JSON's letters as they are, whatever a server's JSON writer escapes",
        "fusewire.ai.text_bounds",
        (("ascii_bytes + _ESCAPE * units)", "0)"),),
        "unit/ai/test_templates.py::test_what_people_met_is_within_the_bound[tools in Chinese, escaped (tabbyAPI#459)]",
    ),
    Mutation(
        "pdf_not_bounded",
        1,
        "a PDF is bounded as if it had one page",
        "fusewire.ai.bounds",
        (("return MAX_PAGES if pages is None else pages", "return 1"),),
        "unit/ai/test_bounds.py::test_a_pdf_is_bounded_by_its_pages[%PDF encrypted-600]",
    ),
    Mutation(
        "image_without_the_whole",
        1,
        "an image's bound lacks the tile of the whole, which Vertex bills",
        "fusewire.ai.image_tokens",
        (("258 * (1 + max(", "258 * (max("),),
        "unit/ai/test_image_tokens.py::test_what_was_billed_is_within_the_bound"
        "[gemini-2.5-flash-size14-auto-1806-googleapis/python-genai#1907]",
    ),
    Mutation(
        "marked_write_at_the_input_price",
        1,
        "a cache write that the request asks for is bounded at the input's price",
        "fusewire.ai.providers.cache_marks",
        (('return "5m" if marks else "none"', 'return "none"'),),
        "unit/ai/test_counting.py::test_a_mark_on_a_tool_or_a_result_asks_for_a_write",
    ),
    Mutation(
        "window_of_who_bills_beyond_it",
        1,
        "Azure's inputs are bounded by the context window, though it may bill one that is too long",
        "fusewire.ai.request_bound",
        (("if not counting.refuses_over_window:", "if False:"),),
        "unit/ai/test_counting.py::test_no_bound_passes_the_window_of_who_refuses_more[azure-ours-None]",
    ),
    Mutation(
        "thoughts_not_bounded",
        1,
        "the thoughts of earlier answers that go back to Claude aren't in the input bound",
        "fusewire.ai.bounds",
        (("for thought in message.thinking_blocks or ():", "for thought in ():"),),
        "unit/ai/test_bounds.py::test_thoughts_that_go_back_are_bounded",
    ),
    Mutation(
        "default_system_text_not_bounded",
        1,
        "the allowance for what a server adds is a vendor's for every server",
        "fusewire.ai.router",
        (("provider.template_tokens if templates else 0)", "96 if templates else 0)"),),
        "integration/ai/test_allowances.py::"
        "test_a_server_that_writes_its_own_template_is_allowed_more_from_the_beginning",
    ),
    Mutation(
        "raised_allowance_ignored",
        1,
        "a reservation is admitted with a smaller allowance than a usage has shown to be needed",
        "input_allowance_refusal",
        (("AND a.tokens > (candidate->>'allowance')::bigint", "AND false"),),
        "integration/budget/test_allowances.py::test_it_holds_for_every_session_and_never_gets_smaller[1]",
    ),
    Mutation(
        "raised_allowance_ignored_in_slots",
        1,
        "what is reserved in a slot is not held to a raised allowance",
        "ledger_reserve_in_slot",
        (("IF input_allowance_refusal(choice.chosen) IS NOT NULL THEN RETURN NULL; END IF;", ""),),
        "integration/budget/test_allowances.py::test_it_holds_for_every_session_and_never_gets_smaller[4]",
    ),
    Mutation(
        "bound_at_the_cheapest_rate",
        1,
        "the bound takes the cheapest input rate instead of the dearest",
        "fusewire.budget.price",
        (("size * max(", "size * min("),),
        "unit/budget/test_pricing.py::TestBound::test_an_unreachable_tier_is_not_reserved_for",
    ),
    Mutation(
        "bound_without_long_context_tiers",
        1,
        "the bound ignores the dearer rates of long contexts",
        "fusewire.budget.price",
        (("for size in (*starts, input_tokens)", "for size in (starts or {input_tokens})"),),
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
        "integration/budget/test_limits.py::"
        "test_a_reservation_that_waits_for_a_lowered_limit_is_not_made_under_the_old_one[one row]",
    ),
    Mutation(
        "no_queue",
        2,
        "who waits for the company's row waits for it alone, and each commit wakes all of them",
        "ledger_join_queue",
        (("    PERFORM pg_advisory_xact_lock(hashtext('fusewire.open_window'));\n", ""),),
        "integration/budget/test_concurrency.py::test_who_waits_for_the_company_waits_in_one_queue",
    ),
    Mutation(
        "queue_held_for_an_old_window",
        2,
        "a call that fails over after a reset holds up all others while it waits for its old window",
        "ledger_join_queue",
        (("AND b.closed_at IS NOT NULL", "AND false"),),
        "integration/budget/test_concurrency.py::test_a_failover_waits_for_its_old_window_before_it_locks_the_open_one",
    ),
    Mutation(
        "check_before_lock",
        2,
        "admission is decided on sums that were read before the lock was granted",
        "ledger_reserve_on_row",
        (
            (
                "    has_waited boolean :=",
                "    seen budget_window :="
                " (SELECT b FROM budget_window b WHERE b.budget = 'global' AND b.closed_at IS NULL);\n"
                "    has_waited boolean :=",
            ),
            (
                "    w := step.w; rolled_over := step.rolled_over; limit_usd",
                "    w := step.w; IF seen.id = w.id THEN w := seen; END IF;\n"
                "    rolled_over := step.rolled_over; limit_usd",
            ),
        ),
        "integration/budget/test_concurrency.py::test_a_reservation_waits_for_one_under_way_and_counts_it",
    ),
    Mutation(
        "reserved_not_counted",
        2,
        "admission looks at what is spent alone",
        "ledger_refusal",
        (("w.spent + w.reserved + bound > limit_usd", "w.spent + bound > limit_usd"),),
        "integration/budget/test_admission.py::test_the_last_cent_can_be_reserved_and_not_one_micro_cent_more",
    ),
    Mutation(
        "a_hair_over_the_limit",
        2,
        "admission rounds to the cent",
        "ledger_refusal",
        (("w.spent + w.reserved + bound > limit_usd", "round(w.spent + w.reserved + bound, 2) > limit_usd"),),
        "integration/budget/test_admission.py::test_the_last_cent_can_be_reserved_and_not_one_micro_cent_more",
    ),
    Mutation(
        "open_lets_in",
        2,
        "an OPEN breaker lets in what would still fit",
        "ledger_refusal",
        (("ledger_state(w.spent, limit_usd, settings) = 'OPEN' OR ", ""),),
        "integration/budget/test_admission.py::test_an_open_breaker_refuses_what_would_still_fit",
    ),
    Mutation(
        "key_budget_not_checked",
        2,
        "what a key's calls hold is not counted against its budget",
        "ledger_refusal",
        (("kw.spent + kw.reserved + bound > k.limit_usd", "false"),),
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
        "ledger_insert_reservation",
        (("rate_requests = kw.rate_requests + is_first::int", "rate_requests = kw.rate_requests"),),
        "integration/budget/test_rate_limits.py::test_requests_a_minute_from_the_first_call_on",
    ),
    Mutation(
        "tokens_a_minute_not_counted",
        2,
        "a key's tokens a minute are not held at their bound",
        "ledger_insert_reservation",
        (("rate_tokens = kw.rate_tokens + tokens\n", "rate_tokens = kw.rate_tokens\n"),),
        "integration/budget/test_rate_limits.py::test_tokens_are_held_at_their_bound_and_given_back",
    ),
    Mutation(
        "slots_over_allocated",
        2,
        "each slot is allocated all of the room instead of its part",
        "ledger_allocate_slots",
        (("* 0.999 / slots, 12)", "* 0.999, 12)"),),
        "integration/budget/test_slots.py::test_what_is_allocated_stays_below_the_alert_threshold",
    ),
    Mutation(
        "key_budget_not_checked_in_slots",
        2,
        "what is reserved in a slot is not checked against the key's budget",
        "ledger_reserve_in_slot",
        (
            (
                "IF ledger_refusal(NULL, CASE WHEN",
                "IF false AND ledger_refusal(NULL, CASE WHEN",
            ),
        ),
        "integration/budget/test_slots.py::test_a_key_is_held_to_its_budget_in_every_slot",
    ),
    Mutation(
        "slots_not_reclaimed",
        2,
        "the window decides without what its slots hold",
        "ledger_lock_window",
        (
            (
                "    IF name = 'global' THEN w := ledger_reclaim_slots(w); END IF; -- and all others'\n",
                "",
            ),
        ),
        "integration/budget/test_slots.py::test_the_last_cent_is_served_though_no_slot_has_room_for_it",
    ),
    Mutation(
        "slot_of_another_limit",
        2,
        "a slot that was allocated under another limit serves on",
        "ledger_reserve_in_slot",
        ((" AND f.ceiling = alert", ""), (" AND b.ceiling = alert", "")),
        "integration/budget/test_slots.py::test_a_slot_of_one_limit_serves_nobody_under_another",
    ),
    Mutation(
        "slots_of_others_not_reclaimed",
        2,
        "the company's row decides without what the slots of keys and nodes hold",
        "ledger_reclaim_slots",
        (("    PERFORM spread_reclaim(w.id);\n", ""),),
        "integration/budget/test_spread.py::test_the_last_cent_of_a_key_is_served_and_not_one_more",
    ),
    Mutation(
        "all_the_room_in_each_slot",
        2,
        "each slot of a busy key has the room of all of them",
        "spread_allocate",
        (("* 0.999 / company_slots, 12)", "* 0.999, 12)"),),
        "integration/budget/test_spread.py::test_the_slots_of_a_key_have_its_room_together",
    ),
    Mutation(
        "slot_of_a_keys_other_limit",
        2,
        "a key's slot serves on under a limit that was lowered meanwhile",
        "ledger_reserve_in_slot",
        (("IF (step.taken).ceiling <> spread_ceiling(k.limit_usd, settings) OR", "IF"),),
        "integration/budget/test_spread.py::test_a_key_whose_limit_is_lowered_is_held_to_it_at_once",
    ),
    Mutation(
        "lowered_limit_not_told_in_slots",
        4,
        "what is settled in slots doesn't tell what a lowered limit crosses",
        "spread_is_outdated",
        (("    RETURN EXISTS (", "    RETURN false AND EXISTS ("),),
        "integration/budget/test_spread.py::test_a_settlement_in_its_slots_tells_what_a_lowered_limit_crosses",
    ),
    Mutation(
        "minute_not_counted_in_slots",
        2,
        "a key with a limit of requests a minute isn't counted where it has slots",
        "ledger_reserve_in_slot",
        ((" OR spread_counts_by_minute(k) THEN", " THEN"),),
        "integration/budget/test_spread.py::test_a_key_that_is_counted_by_the_minute_keeps_its_row",
    ),
    Mutation(
        "settled_in_one_slot_alone",
        3,
        "what is settled in a slot isn't booked in those of its key and nodes",
        "ledger_settle_in_slot",
        (
            (
                "    PERFORM spread_book(e, s.slot, COALESCE(e.cost, 0), e.bound, (e.status = 'settled')::int);\n",
                "",
            ),
        ),
        "integration/budget/test_spread.py::test_each_way_to_end_is_booked_in_the_slots[actual]",
    ),
    Mutation(
        "given_back_in_one_slot_alone",
        2,
        "what is given back stays reserved in the slots of its key and nodes",
        "ledger_give_back",
        (("        PERFORM spread_book(was, was.slot, 0, amount, 0);\n", ""),),
        "integration/budget/test_spread.py::test_what_is_given_back_is_free_in_each_slot",
    ),
    Mutation(
        "slots_beside_an_older_window",
        4,
        "a cost above its bound in an older window of the company's leaves its key's slots as they are",
        "ledger_settle_entry",
        (("        IF exceeds OR spread_is_outdated(was, settings) THEN\n", "        IF false THEN\n"),),
        "integration/budget/test_spread.py::"
        "test_an_entry_of_an_older_window_of_the_companys_may_cross_a_keys_threshold",
    ),
    Mutation(
        "busy_and_never_spread",
        2,
        "a key whose row is waited for stays on it",
        "spread_take",
        (("IF serves THEN b := spread_follow_load(b, waited); END IF;", ""),),
        "integration/budget/test_spread.py::test_a_budget_whose_row_is_waited_for_gets_slots[key]",
    ),
    Mutation(
        "key_read_before_its_lock",
        2,
        "a call is held to its key as the key was before its window was waited for",
        "ledger_reserve_on_row",
        (
            (
                "        step := ledger_lock_window(entry->>'key_id', settings, NULL);\n",
                "        SELECT * INTO k FROM api_key WHERE id = entry->>'key_id';\n"
                "        step := ledger_lock_window(entry->>'key_id', settings, NULL);\n",
            ),
            ("        SELECT * INTO k FROM api_key WHERE id = kw.budget;", "       "),
        ),
        "integration/budget/test_concurrency.py::test_a_call_is_held_to_its_key_as_it_is_when_its_window_is_free",
    ),
    Mutation(
        "slot_read_without_lock",
        2,
        "a slot that is being reclaimed serves on",
        "ledger_reserve_in_slot",
        ((" FOR NO KEY UPDATE SKIP LOCKED)", ")"),),
        "integration/budget/test_overlaps.py::test_two_of_which_one_is_held_before_its_commit[slots, expired]",
    ),
    Mutation(
        "fitted_cap_not_sent",
        1,
        "a cap that was fitted is reserved for, and the caller's is sent",
        "fusewire.ai.attempts",
        (("self._target = self._taken.capped(reservation.cap)", "self._target = self._taken"),),
        "integration/ai/test_output_caps.py::test_a_fitted_cap_is_sent_told_and_booked[False]",
    ),
    Mutation(
        "fitted_bound_not_reserved",
        2,
        "a cap is fitted, and the ledger holds what it would cost without what it costs beside it",
        "ledger_fit",
        (("'cap', cap, 'bound', fixed + cap * per_token,", "'cap', cap, 'bound', cap * per_token,"),),
        "integration/budget/test_fitting.py::test_a_cap_that_takes_more_is_2048_while_few_answers_are_known",
    ),
    Mutation(
        "fitted_by_one_answer_of_n",
        2,
        "a fitted cap is reserved for one of n answers",
        "fusewire.ai.output_caps",
        (("replace(self, tokens=tokens, billed=tokens * self.n)", "replace(self, tokens=tokens, billed=tokens)"),),
        "unit/ai/test_output_caps.py::test_a_shorter_cap_is_billed_n_times",
    ),
    Mutation(
        "unenforced_cap_fitted",
        2,
        "a cap is fitted that the provider doesn't enforce",
        "fusewire.ai.output_caps",
        (("and provider.output_bound(model, 1) == 1", "and True"),),
        "unit/ai/test_output_caps.py::test_a_cap_that_isnt_enforced_is_never_fitted",
    ),
    Mutation(
        "whole_cap_takes_all_the_room",
        2,
        "a whole cap is reserved whenever it fits, and takes the room of the others",
        "ledger_fit",
        (("(candidate->>'bound')::numeric * 10 < room", "(candidate->>'bound')::numeric <= room"),),
        "integration/budget/test_fitting.py::test_a_cap_that_takes_more_is_2048_while_few_answers_are_known",
    ),
    Mutation(
        "cut_answers_not_counted_as_longer",
        2,
        "an answer that its cap cut off counts as if it had ended there",
        "fusewire.ai.attempts",
        (("        return output.tokens + 1\n", "        return output.tokens\n"),),
        "unit/ai/test_output_caps.py::test_an_answer_that_was_cut_counts_as_a_longer_one",
    ),
    Mutation(
        "waiting_shrinks_no_cap",
        2,
        "a call that has waited long asks for as much room as one that has just come",
        "admission_offer",
        (("(p->'wait'->>'waited_percent')::numeric / 100", "0::numeric"),),
        "integration/budget/test_fitting.py"
        "::test_a_call_that_has_waited_long_goes_out_with_a_cap_that_is_enough_for_most",
    ),
    Mutation(
        "queue_jumped",
        2,
        "a call that comes later takes the room that an earlier one waits for",
        "admission_refusal",
        (
            (
                "IF bound > rooms[place] - admission_claim(names[place], own_entry, bound) THEN",
                "IF bound > rooms[place] THEN",
            ),
        ),
        "integration/budget/test_waiting.py::test_a_small_call_doesnt_pass_a_large_one_that_came_before_it",
    ),
    Mutation(
        "others_queues_waited_for",
        2,
        "a call waits for those who wait for another key's budget",
        "admission_claim",
        (("WHERE t.blocked_by = budget AND", "WHERE"),),
        "integration/budget/test_waiting.py::test_who_waits_for_another_budget_holds_up_nobody",
    ),
    Mutation(
        "dead_tickets_count",
        2,
        "the ticket of a caller that died holds up the others for good",
        "admission_claim",
        (("AND t.alive_until > clock_timestamp()", ""),),
        "integration/budget/test_waiting.py::test_a_dead_callers_ticket_holds_up_nobody_for_long",
    ),
    Mutation(
        "large_calls_hold_up_everybody",
        2,
        "a large call holds up small ones for as long as it waits",
        "admission_claim",
        (("AND NOT (t.bound > 8 * admission_claim.bound", "AND NOT (false AND t.bound > 8 * admission_claim.bound"),),
        "integration/budget/test_waiting.py::test_after_five_seconds_calls_of_less_than_an_eighth_pass_a_large_one",
    ),
    Mutation(
        "waiting_unbounded",
        2,
        "one key's calls may all wait",
        "admission_take",
        ((">= (wait->>'max_per_key')::integer", "> 1000000"),),
        "integration/budget/test_waiting.py::test_a_key_has_only_so_many_waiting",
    ),
    Mutation(
        "ticket_kept",
        2,
        "a call that was admitted keeps its place",
        "admission_leave",
        (("WHERE t.entry_id = own_entry;", "WHERE false;"),),
        "integration/budget/test_waiting.py::test_a_call_waits_until_the_call_in_flight_ends",
    ),
    Mutation(
        "queue_jumped_in_slots",
        2,
        "a call that comes later takes a slot's part of the room that an earlier one waits for",
        "ledger_reserve_in_slot",
        (("bound > 0 AND EXISTS (SELECT FROM admission_wait t WHERE t.alive_until > clock_timestamp())", "false"),),
        "integration/budget/test_waiting.py::test_no_slot_has_room_for_those_who_come_later",
    ),
    Mutation(
        "queue_looked_at_before_the_slots_lock",
        2,
        "a slot that was reclaimed for a waiting call, and allocated anew, serves who found nobody waiting before that",
        "ledger_reserve_in_slot",
        (
            (
                "choice.chosen IS NULL OR choice.probing",
                "choice.chosen IS NULL OR bound > 0 AND EXISTS (SELECT FROM admission_wait) OR choice.probing",
            ),
            ("bound > 0 AND EXISTS (SELECT FROM admission_wait t WHERE t.alive_until > clock_timestamp())", "false"),
        ),
        "integration/budget/test_waiting.py::test_a_slot_that_was_waited_for_has_no_room_for_those_who_come_later",
    ),
    Mutation(
        "dead_tickets_close_the_slots",
        2,
        "the ticket of a caller that died keeps everybody out of the slots",
        "ledger_reserve_in_slot",
        ((" WHERE t.alive_until > clock_timestamp()", ""),),
        "integration/budget/test_waiting.py::test_no_slot_has_room_for_those_who_come_later",
    ),
    Mutation(
        "admitted_for_a_caller_who_has_left",
        2,
        "a waiting call is admitted and sent though its caller has left",
        "fusewire.budget.ledger",
        (("if waiting.is_in_vain:", "if False:"),),
        "integration/budget/test_waiting.py::test_whose_caller_has_left_gives_up_its_place",
    ),
    Mutation(
        "leaves_and_wakes_nobody",
        2,
        "the next in line isn't notified when the call before it is given up",
        "admission_withdraw",
        (("PERFORM admission_wake(ARRAY[waited_for], p->'settings')", "NULL"),),
        "integration/budget/test_waking.py::test_whose_caller_has_left_wakes_the_next[one connection]",
    ),
    Mutation(
        "reserved_before_it_is_on_the_disk",
        1,
        "a reservation is answered before the disk has it, as a ticket may be",
        "ledger_reserve_on_row",
        (("IF refusal->>'refused' = 'reserved' AND ended.id IS NULL", "IF true OR ended.id IS NULL"),),
        "integration/budget/test_waiting.py::test_only_what_changes_nothing_but_tickets_may_be_lost_with_the_server",
    ),
    Mutation(
        "listens_and_does_not_look",
        2,
        "a call that begins to be notified over another connection doesn't look whether something has ended before",
        "fusewire.budget.admission",
        (("                return  # what has ended since the ask notified nobody\n", "                pass\n"),),
        "integration/budget/test_waking.py::test_what_ends_before_it_is_listened_to_is_seen_all_the_same",
    ),
    Mutation(
        "waits_for_ever",
        2,
        "a call whose time is over keeps its place",
        "admission_take",
        (("wait IS NULL OR wait ? 'last'", "wait IS NULL"),),
        "integration/budget/test_reference.py::test_one_of_each_agrees[1]",
    ),
    Mutation(
        "room_told_by_caps",
        15,
        "a fitted cap is no step of the ladder, and tells the room of the budgets above",
        "output_cap_within",
        (("greatest(output_step(n), smallest)", "greatest(most::bigint, smallest)"),),
        "integration/budget/test_fitting.py::test_the_rule",
    ),
    Mutation(
        "upper_budget_told",
        15,
        "whoever may not see the budgets above a key is told which of them refuses, by name",
        "fusewire.budget.refusals",
        (("elif call.sees_budgets:", "elif True:"),),
        "integration/budget/test_tree.py::test_the_first_that_says_no_is_named_from_the_key_up",
    ),
    Mutation(
        "deleted_nodes_window_stays_open",
        6,
        "a deleted node's window stays open",
        "budget_node_delete",
        (("WHERE w.budget = was.id AND w.closed_at IS NULL", "WHERE false"),),
        "integration/budget/test_tree.py::test_a_deleted_node_takes_what_was_in_flight",
    ),
    Mutation(
        "requests_own_limit_not_kept",
        2,
        "what earlier attempts are booked at doesn't count against the request's own limit",
        "fusewire.ai.attempts",
        (("self._booked_usd += after.booked", "self._booked_usd += 0"),),
        "integration/ai/test_output_caps.py::test_the_requests_own_limit_counts_all_attempts",
    ),
    Mutation(
        "node_not_asked",
        2,
        "a budget of the tree isn't asked whether a call fits",
        "ledger_path_refusal",
        (
            (
                "w.spent + bound > limit_usd))",
                "false))",
            ),
            (
                "w.spent + w.reserved + bound > limit_usd)",
                "false)",
            ),
        ),
        "integration/budget/test_tree.py::test_a_node_is_passed_by_nobody_below_it[team-on the row]",
    ),
    Mutation(
        "upper_nodes_not_asked",
        2,
        "the path ends with the node that the key is under",
        "ledger_path",
        (
            (
                "next_id := n.parent_id;",
                "next_id := NULL;",
            ),
        ),
        "integration/budget/test_tree.py::test_a_node_is_passed_by_nobody_below_it[division-on the row]",
    ),
    Mutation(
        "node_not_booked",
        2,
        "what is reserved isn't added to the windows of its path",
        "ledger_insert_reservation",
        (
            (
                "WHERE b.id = w.id AND bound > 0 AND",
                "WHERE false AND",
            ),
        ),
        "integration/budget/test_tree.py::test_a_call_is_booked_in_every_budget_on_its_way[on the row]",
    ),
    Mutation(
        "node_not_asked_in_slots",
        2,
        "what is reserved in a slot has no path",
        "ledger_reserve_in_slot",
        (
            (
                "IF key_has_path(k) THEN",
                "IF false THEN",
            ),
        ),
        "integration/budget/test_tree.py::test_a_node_is_passed_by_nobody_below_it[team-in slots]",
    ),
    Mutation(
        "users_not_told_apart",
        2,
        "every user of a key has the same budget",
        "ledger_user_budget",
        (
            (
                "decode(digest, 'hex')",
                "''::bytea",
            ),
        ),
        "integration/budget/test_tree.py::test_a_users_budget_is_named_by_a_keyed_hash",
    ),
    Mutation(
        "user_may_be_left_out",
        2,
        "a key that has a budget for each user takes a request without one",
        "ledger_lacks_user",
        (
            (
                "k.per_user_limit_usd IS NOT NULL AND ",
                "false AND ",
            ),
        ),
        "integration/budget/test_tree.py::test_without_a_user_nothing_is_reserved_on_such_a_key[on the row]",
    ),
    Mutation(
        "models_of_a_node_ignored",
        2,
        "a node with models counts and limits every call",
        "budget_node_counts",
        (
            (
                "models IS NULL OR ",
                "true OR ",
            ),
        ),
        "integration/budget/test_tree.py::test_a_node_with_models_counts_calls_of_these_alone[on the row]",
    ),
    Mutation(
        "path_read_without_lock",
        2,
        "the windows of a path are read without their lock",
        "spread_take",
        (
            (" FOR NO KEY UPDATE SKIP LOCKED;", ";"),
            (" FOR NO KEY UPDATE;", ";"),
        ),
        "integration/budget/test_tree_concurrency.py::test_a_reservation_in_a_slot_waits_for_its_path_and_counts_it",
    ),
    Mutation(
        "path_locked_in_any_order",
        2,
        "the windows of a path are locked from the key up",
        "spread_take_path",
        (
            (
                "ORDER BY b.id LOOP",
                "ORDER BY array_position(names, b.budget) LOOP",
            ),
        ),
        "integration/budget/test_tree_concurrency.py::test_two_paths_are_locked_in_one_order",
    ),
    Mutation(
        "closed_window_alone",
        2,
        "a settlement in a closed window locks its path beside whoever holds the open one",
        "ledger_settle_entry",
        (
            (
                "        PERFORM ledger_lock_out_paths();\n",
                "",
            ),
        ),
        "integration/budget/test_tree_concurrency.py::test_a_settlement_in_a_closed_window_waits_for_who_holds_the_open_one",
    ),
    # --- 3. Every reservation ends exactly once ---
    Mutation(
        "settled_twice",
        3,
        "a settlement that is sent again is booked again",
        "ledger_settle_entry",
        (("IF was.status <> 'reserved' AND (was.outcome IS DISTINCT", "IF false AND (was.outcome IS DISTINCT"),),
        "integration/budget/test_exactly_once.py::test_the_first_end_counts",
    ),
    Mutation(
        "reserved_twice",
        3,
        "a reservation whose answer was lost is made again",
        "ledger_reserve_on_row",
        (
            (
                "IF EXISTS (SELECT FROM ledger WHERE id = (entry->>'id')::uuid) THEN",
                "entry := jsonb_set(entry, '{id}', to_jsonb(gen_random_uuid())); IF false THEN",
            ),
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
        "endless_answer_released",
        3,
        "an answer that is cut off for its size is given back, though it was made",
        "fusewire.ai.failures",
        (
            (
                "_K.ANSWER_TOO_LARGE: Consequence(True, _S.BOUND, _H.NOTE)",
                "_K.ANSWER_TOO_LARGE: Consequence(True, _S.RELEASE, _H.NOTE)",
            ),
        ),
        "unit/ai/test_failures.py::test_money_is_released_only_where_the_provider_certainly_did_no_work[answer_too_large]",
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
                "SET spent = spent + sum_of_bounds, reserved = reserved - sum_of_bounds,\n"
                "               request_count = request_count + calls,",
                "SET reserved = reserved - sum_of_bounds,",
            ),
        ),
        "integration/budget/test_expiry.py::test_an_expired_reservation_is_settled_at_its_bound[budget]",
    ),
    Mutation(
        "expired_left_by_a_reserve",
        3,
        "a reserve that needs room leaves expired reservations in it",
        "ledger_reserve_on_row",
        (
            (
                "step := ledger_expire(w, settings, statement_id, NULL, threshold_events);\n"
                "        w := step.w; expired := step.expired; threshold_events := step.threshold_events;",
                "",
            ),
        ),
        "integration/budget/test_expiry.py::test_an_expired_reservation_is_settled_at_its_bound[reserve]",
    ),
    Mutation(
        "expired_not_looked_for",
        3,
        "a reserve leaves what has expired within five seconds of the last sweep",
        "ledger_reserve_on_row",
        (
            (
                " OR EXISTS (\n"
                "        SELECT FROM ledger l WHERE l.window_id = w.id AND l.status = 'reserved'\n"
                "        AND l.expires_at > w.expired_until AND l.expires_at <= clock_timestamp()\n"
                "    ) THEN",
                " THEN",
            ),
        ),
        "integration/budget/test_expiry.py::test_what_expires_right_after_a_sweep_is_settled_by_the_next_reserve",
    ),
    Mutation(
        "late_settlement_ignored",
        3,
        "an expired reservation stays at its bound whatever comes later",
        "ledger_settle_entry",
        (
            (
                "IF was.status <> 'reserved' AND (was.outcome IS DISTINCT FROM 'expired'",
                "IF was.status <> 'reserved' AND (true",
            ),
        ),
        "integration/budget/test_expiry.py::test_a_late_actual_settlement_corrects_the_bound[0.03]",
    ),
    Mutation(
        "late_settlement_added",
        3,
        "a late settlement is added to the bound that it corrects",
        "ledger_settle_entry",
        (("spends := COALESCE(e.cost, 0) - COALESCE(was.cost, 0);", "spends := COALESCE(e.cost, 0);"),),
        "integration/budget/test_expiry.py::test_a_late_actual_settlement_corrects_the_bound[0.03]",
    ),
    Mutation(
        "unsent_call_kept_reserved",
        3,
        "a reservation that nothing was sent on is left to expire at its bound",
        "fusewire.budget.ledger",
        (
            (
                'unsent.append({"settlement": {"id": entry_id, "mode": "release", "outcome": "not_sent"}})',
                "pass",
            ),
        ),
        "integration/budget/test_exactly_once.py::TestOutage::test_a_reservation_that_nothing_was_sent_on_is_released",
    ),
    Mutation(
        "kept_beside_another_call_lost",
        3,
        "a settlement that is kept while another call sends those before it is lost",
        "fusewire.budget.ledger",
        (("self._unsent = [*sending, *self._unsent][-_MAX_KEPT:]", "self._unsent = sending"),),
        "integration/budget/test_shared_connections.py::test_what_is_kept_while_another_call_sends_is_sent_too",
    ),
    Mutation(
        "connection_of_two_calls",
        3,
        "two calls have one connection at once, and one's answer is taken for the other's",
        "fusewire.store.db",
        (("            link = self._free.pop()\n", "            link = self._free[-1]\n"),),
        "integration/budget/test_shared_connections.py::test_without_a_free_connection_a_statement_waits_and_then_says_so",
    ),
    Mutation(
        "release_overtakes_its_reservation",
        3,
        "a reservation that nothing was sent on, and that isn't committed yet, is left to expire at its bound",
        "ledger_settle",
        (("PERFORM ledger_await_entry((p->'settlement'->>'id')::uuid);", "NULL;"),),
        "integration/budget/test_exactly_once.py::TestOutage"
        "::test_a_release_waits_for_the_reservation_that_is_not_committed_yet",
    ),
    Mutation(
        "unheard_settlement_dropped",
        3,
        "a settlement that Postgres didn't hear is not sent again",
        "fusewire.budget.ledger",
        (("                self._keep(ended)\n", "                pass\n"),),
        "integration/budget/test_exactly_once.py::TestOutage::test_a_kept_settlement_is_sent_with_the_next_call",
    ),
    Mutation(
        "no_usage_no_cost",
        3,
        "an answer that doesn't say what it used is booked at nothing",
        "fusewire.ai.usage_cost",
        (
            (
                'UsageCost(None, None, is_actual=False, bound_reason="no_usage")',
                "UsageCost(None, Decimal(0), is_actual=True, bound_reason=None)",
            ),
        ),
        "integration/ai/test_streams.py::test_an_answer_or_stream_without_usage_is_settled_at_its_bound",
    ),
    Mutation(
        "untold_output_free",
        3,
        "output that an answer's usage doesn't tell is booked at nothing",
        "fusewire.ai.usage_cost",
        (("replace(counts, output_tokens=target.max_output_tokens)", "counts"),),
        "integration/ai/test_streams.py::test_a_part_of_the_usage_is_booked_and_the_rest_at_its_bound",
    ),
    Mutation(
        "part_at_its_bound_books_all_of_it",
        3,
        "an answer that told a part of its usage is booked at its whole bound",
        "ledger_cost",
        (("COALESCE((settlement->>'cost')::numeric, bound)", "bound"),),
        "integration/budget/test_part_at_its_bound.py::test_the_part_is_booked_and_the_rest_is_free_again[row]",
    ),
    Mutation(
        "reasoning_beside_the_completion_free",
        3,
        "reasoning that a vendor counts in the total alone costs nothing",
        "fusewire.ai.providers.openai_usage",
        (("        return total - prompt\n", "        return output\n"),),
        "unit/ai/providers/test_openai_usage.py::test_reasoning_beside_the_completion_is_output",
    ),
    Mutation(
        "reasoning_beyond_the_cap_not_reserved",
        1,
        "a model whose reasoning isn't under the cap is reserved for as if it were",
        "fusewire.ai.providers.openai_compatible",
        (("return window and max(window, output_cap)", "return output_cap"),),
        "integration/ai/test_limits.py::test_reasoning_beyond_the_cap_is_reserved_for_and_booked",
    ),
    Mutation(
        "cache_writes_free",
        3,
        "tokens written to a provider's cache cost nothing",
        "fusewire.budget.price",
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
        "a settlement is decided on the entry as it was before the lock was granted",
        "ledger_settle_entry",
        (
            (
                "    SELECT * INTO w FROM budget_window\n",
                "    SELECT * INTO was FROM ledger WHERE id = (settlement->>'id')::uuid;\n"
                "    SELECT * INTO w FROM budget_window\n",
            ),
            (
                "    SELECT * INTO was FROM ledger WHERE id = (settlement->>'id')::uuid;"
                " -- after it: the lock may have been waited for\n",
                "",
            ),
            ("        SELECT * INTO was FROM ledger WHERE id = was.id FOR UPDATE;\n", ""),
        ),
        "integration/budget/test_overlaps.py::test_two_of_which_one_is_held_before_its_commit[below the threshold]",
    ),
    Mutation(
        "ended_in_a_slot_of_another_allocation",
        3,
        "a reservation that was reclaimed is ended in its slot when that is allocated anew",
        "ledger_settle_in_slot",
        ((" AND b.epoch = was.slot_epoch", ""),),
        "integration/budget/test_slots.py::test_a_reservation_of_an_earlier_allocation_ends_in_the_window",
    ),
    Mutation(
        "settled_twice_in_a_slot",
        3,
        "an entry that was ended while its slot was waited for is ended again",
        "ledger_settle_row",
        ((" AND status = was.status", ""),),
        "integration/budget/test_overlaps.py::test_two_of_which_one_is_held_before_its_commit[slots, expired]",
    ),
    Mutation(
        "expired_past_the_slots",
        3,
        "what has expired in a slot is booked by the window without it",
        "ledger_expire_all",
        (("    PERFORM ledger_reclaim_slots(b) FROM budget_window b WHERE b.id = ANY (stale);\n", ""),),
        "integration/budget/test_overlaps.py::test_two_of_which_one_is_held_before_its_commit[slots, expired]",
    ),
    Mutation(
        "unknown_refusal_released",
        3,
        "a 400 for a reason that nobody lists is given back",
        "fusewire.ai.providers.response_failures",
        (("400: (_KIND.UNKNOWN_REFUSAL,", "400: (_KIND.REJECTED_REQUEST,"),),
        "integration/ai/test_failures_are_booked.py::test_a_status[openai-400-whole]",
    ),
    Mutation(
        "work_behind_a_400_released",
        3,
        "a 400 that ends a model's thinking at its output cap is given back",
        "fusewire.ai.providers.known_refusals",
        (
            (
                'Refusal(_K.OUTPUT_CAP_REACHED, "decolua/9router#972"',
                'Refusal(_K.REJECTED_REQUEST, "decolua/9router#972"',
            ),
        ),
        "integration/ai/test_contract.py::test_a_refusal_is_known_by_the_vendors_own_words[openai-whole]",
    ),
    Mutation(
        "refused_prompt_released",
        3,
        "a prompt that a vendor's policy refused is given back",
        "fusewire.ai.failures",
        (
            (
                "_K.PROMPT_REFUSED: Consequence(False, _S.INPUT_BOUND,",
                "_K.PROMPT_REFUSED: Consequence(False, _S.RELEASE,",
            ),
        ),
        "unit/ai/test_failures.py::test_money_is_released_only_where_the_provider_certainly_did_no_work[prompt_refused]",
    ),
    Mutation(
        "refused_prompt_pays_for_output",
        3,
        "a prompt that a vendor's policy refused is booked with the output that it never had",
        "fusewire.ai.attempts",
        (("self.target.input_bound_usd if settle is Settle.INPUT_BOUND else None", "None"),),
        "integration/ai/test_failures_are_booked.py::test_a_refusal_in_the_vendors_own_words[azure-prompt_refused-whole]",
    ),
    Mutation(
        "repeated_refusal_admitted",
        3,
        "a key that repeats what a vendor refused is reserved for again",
        "ledger_reserve_on_row",
        (("COALESCE(vendor_refusal_of(entry, choice.chosen),", "COALESCE(NULL::jsonb,"),),
        "integration/budget/test_vendor_refusals.py::test_the_third_in_a_row_keeps_the_key_away[on the row]",
    ),
    Mutation(
        "repeated_refusal_admitted_in_a_slot",
        3,
        "a slot doesn't ask what a vendor refused",
        "ledger_reserve_in_slot",
        (("OR vendor_refusal_of(entry, choice.chosen) IS NOT NULL", ""),),
        "integration/budget/test_vendor_refusals.py::test_the_third_in_a_row_keeps_the_key_away[in slots]",
    ),
    Mutation(
        "refusals_of_all_keys",
        3,
        "one key's refusals keep every key from the model",
        "vendor_refusal_of",
        (("v.key_id = COALESCE(entry->>'key_id', '') AND ", ""),),
        "integration/budget/test_vendor_refusals.py::test_one_key_model_or_provider_is_no_others[on the row]",
    ),
    Mutation(
        "sent_taken_for_unsent",
        3,
        "what fails after the first byte is given back",
        "fusewire.ai.providers.sending",
        (
            (
                "if event.endswith(_BEGINS):\n            self.begun = True",
                "if event.endswith(_BEGINS):\n            self.begun = False",
            ),
        ),
        "integration/ai/test_not_sent.py::test_what_fails_after_it_is_at_the_bound[openai-whole]",
    ),
    Mutation(
        "settled_on_todays_path",
        3,
        "a settlement is booked in the open windows of the path that the key has now",
        "ledger_settle_entry",
        (
            (
                "ledger_book_path(e.path_window_ids, settings, spends",
                "ledger_book_path(ARRAY(SELECT o.id FROM budget_window o, api_key k WHERE k.id = e.key_id"
                " AND o.closed_at IS NULL AND o.budget = ANY (budget_node_way_up(k.budget_id))), settings, spends",
            ),
        ),
        "integration/budget/test_tree.py::test_it_settles_on_the_path_in_which_it_was_reserved[on the row]",
    ),
    Mutation(
        "path_not_settled",
        3,
        "a settlement leaves the windows of its path as they were",
        "ledger_book_path",
        (
            (
                "spent = b.spent + spends, reserved = b.reserved - frees",
                "spent = b.spent, reserved = b.reserved",
            ),
        ),
        "integration/budget/test_tree.py::test_a_call_is_booked_in_every_budget_on_its_way[on the row]",
    ),
    Mutation(
        "path_not_settled_in_slots",
        3,
        "a settlement in a slot leaves out the windows of its path",
        "ledger_settle_in_slot",
        (
            (
                "IF e.path_window_ids IS NOT NULL THEN",
                "IF false THEN",
            ),
        ),
        "integration/budget/test_tree.py::test_a_call_is_booked_in_every_budget_on_its_way[in slots]",
    ),
    Mutation(
        "expired_past_the_path",
        3,
        "what expires isn't booked in the windows of its path",
        "ledger_expire",
        (
            (
                "IF e.path_window_ids IS NOT NULL THEN",
                "IF false THEN",
            ),
        ),
        "integration/budget/test_tree.py::test_what_expires_is_booked_on_its_path_and_corrected_there[on the row]",
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
                "        WHERE id = (SELECT window_id FROM ledger WHERE id = (p->'settlement'->>'id')::uuid)"
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
                "            argument = {**argument, **ended}\n",
                "            self._settle(ended)\n",
            ),
        ),
        "integration/ai/test_failover.py::test_an_attempt_more_is_one_round_trip_more",
    ),
    Mutation(
        "failed_attempt_not_ended",
        4,
        "the successor is reserved and the failed attempt is not ended",
        "fusewire.budget.ledger",
        (("            argument = {**argument, **ended}\n", ""),),
        "integration/budget/test_threshold_events.py::test_a_failover_and_a_bound_cross_like_a_settlement",
    ),
    # --- 5. States ---
    Mutation(
        "open_above_its_threshold",
        5,
        "the breaker opens above 95 % instead of at it",
        "ledger_state",
        (("spent >= limit_usd * (settings->>'open')::numeric", "spent > limit_usd * (settings->>'open')::numeric"),),
        "integration/budget/test_threshold_events.py::test_states_at_their_exact_thresholds",
    ),
    Mutation(
        "threshold_event_told_twice",
        5,
        "a threshold event is not recorded, so the next statement returns it again",
        "ledger_record_state",
        (("    UPDATE budget_window SET state = now_state WHERE id = w.id;\n", ""),),
        "integration/budget/test_threshold_events.py::test_32_settlements_that_cross_at_once_tell_it_once",
    ),
    Mutation(
        "threshold_event_told_by_a_repeated_settlement",
        5,
        "a settlement that is repeated returns its threshold event again",
        "ledger_settle_on_row",
        (
            (
                "IF NOT step.repeated OR p ? 'resent' THEN threshold_events := step.threshold_events; END IF;",
                "threshold_events := step.threshold_events;",
            ),
        ),
        "integration/budget/test_threshold_events.py::test_a_settlement_that_is_repeated_tells_nothing_again",
    ),
    Mutation(
        "reserved_crosses",
        5,
        "what is only reserved counts towards the state",
        "ledger_record_state",
        (
            (
                "now_state text := ledger_state(w.spent, limit_usd",
                "now_state text := ledger_state(w.spent + w.reserved, limit_usd",
            ),
        ),
        "integration/budget/test_threshold_events.py::test_what_is_reserved_crosses_nothing",
    ),
    Mutation(
        "limit_from_elsewhere",
        5,
        "settlements take the limit from the last threshold event instead of the one in force",
        "ledger_settle_entry",
        (
            (
                "ledger_record_state(w, ledger_limit_in_force(w.limit_usd, settings), settings,",
                "ledger_record_state(w, COALESCE((SELECT t.limit_usd FROM budget_threshold_event t"
                " ORDER BY t.crossed_at LIMIT 1), ledger_limit_in_force(w.limit_usd, settings)), settings,",
            ),
        ),
        "integration/budget/test_threshold_events.py::test_a_raised_limit_lowers_the_state_and_crossing_again_is_a_new_event",
    ),
    Mutation(
        "node_told_again",
        5,
        "a node's threshold event is told with each settlement",
        "ledger_book_path",
        (
            (
                "step := ledger_record_state(\n",
                "w.state := 'CLOSED'; step := ledger_record_state(\n",
            ),
        ),
        "integration/budget/test_tree.py::test_thresholds_of_its_own_are_crossed_once",
    ),
    Mutation(
        "node_with_the_settings_thresholds",
        5,
        "a node's own thresholds don't count",
        "ledger_thresholds_of",
        (
            (
                "IF NOT starts_with(of_budget, 'bud_') THEN",
                "IF true THEN",
            ),
        ),
        "integration/budget/test_tree.py::test_thresholds_of_its_own_are_crossed_once",
    ),
    # --- 6. Windows ---
    Mutation(
        "reset_loses_reservations",
        6,
        "a reset forgets what the closed window has reserved",
        "ledger_roll_over",
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
        "ledger_settle_entry",
        (
            (
                "WHERE id = (SELECT l.window_id FROM ledger l WHERE l.id = (settlement->>'id')::uuid) FOR",
                "WHERE budget = 'global' AND closed_at IS NULL FOR",
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
        "ledger_settle_entry",
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
        "ledger_period_end",
        (
            (
                "(date_trunc(period, at AT TIME ZONE tz) + ('1 ' || period)::interval) AT TIME ZONE tz",
                "(date_trunc(period, at AT TIME ZONE 'UTC') + ('1 ' || period)::interval) AT TIME ZONE 'UTC'",
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
        (("ELSIF p->>'opened_by' = 'schedule' AND (", "ELSIF false AND ("),),
        "integration/budget/test_windows.py::TestSchedule::test_twice_in_a_minute_resets_once",
    ),
    Mutation(
        "every_period_a_month",
        6,
        "every window ends with the month",
        "ledger_period_of",
        (
            (
                "RETURN (SELECT n.period FROM budget_node n WHERE n.id = of_budget);",
                "RETURN 'month';",
            ),
        ),
        "integration/budget/test_tree.py::test_a_window_ends_with_its_own_period[day-ends2]",
    ),
    Mutation(
        "old_period_goes_on",
        6,
        "another period counts from the next window on",
        "ledger_change_period",
        (
            (
                "AND w.closed_at IS NULL",
                "AND false",
            ),
        ),
        "integration/budget/test_tree.py::test_another_period_in_mid_window",
    ),
    # --- 7. No ledger, no call ---
    Mutation(
        "no_ledger_still_a_call",
        7,
        "without the ledger the first candidate is called unreserved",
        "fusewire.budget.ledger",
        (
            (
                "                self._keep(*unsent)\n                raise\n",
                '                result = {"candidate": 0, "cooling": [], "key": None, "budget": {"id": 0,'
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
        "ledger_settle_entry",
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
    Mutation(
        "give_back_raises",
        3,
        "what is given back while a stream goes on may raise the reservation instead",
        "ledger_give_back",
        (
            ("OR at_most >= was.bound\n", "\n"),
            ("OR NOT give_back_is_worthwhile(was, was.bound - at_most, settings) THEN", "THEN"),
            ("OR amount <= 0 THEN", "THEN"),
        ),
        "integration/budget/test_give_back.py::test_it_never_raises_what_is_held",
    ),
    Mutation(
        "give_back_of_what_has_ended",
        3,
        "what has ended is given back once more",
        "ledger_give_back",
        (("was.status IS DISTINCT FROM 'reserved' OR ", ""), ("was.status <> 'reserved' OR ", "")),
        "integration/budget/test_give_back.py::test_what_has_ended_stays_as_it_is",
    ),
    Mutation(
        "give_back_beside_the_path",
        2,
        "what is given back stays held in the tree's budgets",
        "ledger_give_back",
        (("reserved = b.reserved - amount WHERE b.id = ANY", "reserved = b.reserved WHERE b.id = ANY"),),
        "integration/budget/test_give_back.py::test_it_is_free_in_every_budget_of_the_call[on the row]",
    ),
    Mutation(
        "settlement_of_the_bound_that_was",
        3,
        "a settlement that waits beside what is given back frees it a second time",
        "ledger_settle_row",
        ((" AND bound = was.bound", ""),),
        "integration/budget/test_give_back.py::test_a_settlement_that_came_meanwhile_books_what_is_held_then",
    ),
    Mutation(
        "input_counted_at_the_cheapest",
        1,
        "what a counted input leaves to be paid is bounded at the rates of this hour",
        "fusewire.budget.price",
        (
            (
                "rates.cost(counts) for tier in {None, service_tier} for rates in _possible(self._of(tier), at)",
                "rates.cost(counts) for tier in {service_tier} for rates in (_active(self._of(tier), at),)",
            ),
        ),
        "unit/ai/test_usage_cost.py::test_what_may_still_come_is_bounded_at_the_dearest_rates",
    ),
    Mutation(
        "another_servers_first_count_believed",
        1,
        "any server of Anthropic's protocol is believed when its stream begins with a count",
        "fusewire.ai.providers.anthropic.provider",
        (("counts_input_first=self.at_vendor()", "counts_input_first=True"),),
        "integration/ai/test_give_back.py::test_another_server_of_the_protocol_isnt_believed_so_early",
    ),
    # --- 10. No price, no call ---
    Mutation(
        "poorer_override_taken",
        10,
        "an override that leaves out what the known price has is taken as it is",
        "fusewire.budget.pricing",
        (("if known is not None and (dropped :=", "if known is None and (dropped :="),),
        "unit/budget/test_pricing.py::TestWhatAnOverrideLeavesOut::test_nor_must_it_say_what_only_an_earlier_price_had",
    ),
    Mutation(
        "price_of_another_region",
        10,
        "a Bedrock model costs what it costs in the US, wherever it is called",
        "fusewire.budget.price_list",
        (("if everywhere or region in _BEDROCK_HOME else None", "if True else None"),),
        "unit/budget/test_price_list.py::test_the_refusal_holds_the_line_to_set"
        "[aws-meta.llama3-1-8b-instruct-v1:0-eu-west-2-there is no price of it in eu-west-2]",
    ),
    Mutation(
        "override_passed_by",
        10,
        "an override holds for its own spelling of the model's name only",
        "fusewire.budget.model_names",
        (("name = model.strip().casefold()", "name = model.strip()"),),
        "unit/budget/test_pricing.py::TestNames::test_an_override_holds_however_the_caller_spells_it"
        "[vllm/Org/Model-vllm/org/model]",
    ),
    Mutation(
        "service_tier_left_to_the_vendor",
        1,
        "a call without a service tier is served in the vendor's project's own",
        "fusewire.ai.providers.openai",
        (('("default" if _TIERED_MODEL.match(model) else None)', "None"),),
        "integration/ai/test_contract.py::test_the_default_service_tier_is_asked_for_by_name[openai-None-whole]",
    ),
    Mutation(
        "unpriced_tier_sent",
        1,
        "a service tier without a price is asked for all the same, at a rate that nobody reserved",
        "fusewire.ai.relaxing",
        (("request.tier_asked is not None and target.service_tier is None", "False"),),
        "integration/ai/test_contract.py::test_a_tier_without_a_price_is_dropped_by_name[openai-flex-whole]",
    ),
    Mutation(
        "bound_of_the_tier_asked_for_alone",
        1,
        "a flex call's bound forgets that it may be served in the default tier",
        "fusewire.budget.price",
        (("served_in = {None, service_tier}", "served_in = {service_tier}"),),
        "unit/budget/test_pricing.py::TestFactors::test_an_entrys_own_service_tiers",
    ),
    Mutation(
        "served_tier_unread",
        3,
        "a call is booked at the default tier's price, whichever the answer names",
        "fusewire.ai.usage_cost",
        (("    tier = _TIER_BY_VENDOR_NAME[reported_tier]\n", "    tier = None\n"),),
        "integration/ai/test_contract.py::test_a_call_is_booked_in_the_service_tier_that_the_answer_names"
        "[openai-whole-None-priority-2]",
    ),
    Mutation(
        "unpriced_model_free",
        10,
        "a model without a price costs nothing",
        "fusewire.budget.pricing",
        (
            (
                "            raise ModelNotPricedError(provider, model, self._why_not(provider))\n",
                "            return _FREE\n",
            ),
        ),
        "integration/ai/test_limits.py::test_a_model_without_a_price_is_refused_before_a_byte_is_sent",
    ),
    # --- 13. Settled after the answer ---
    Mutation(
        "late_though_the_company_is_tight",
        13,
        "a settlement may follow its answer though the company's budget isn't ample",
        "ledger_reserve_on_row",
        (
            (
                "AND w.spent + 2 * w.reserved < limit_usd * (settings->>'alert')::numeric\n",
                "AND w.spent < limit_usd\n",
            ),
        ),
        "integration/budget/test_late_settlement.py::test_ample_is_twice_what_is_reserved_below_the_alert_threshold",
    ),
    Mutation(
        "late_though_the_key_is_tight",
        13,
        "a settlement may follow its answer though the key's budget isn't ample",
        "ledger_reserve_on_row",
        (
            (
                "AND (kw.spent + 2 * kw.reserved < k.limit_usd * (settings->>'alert')::numeric) IS NOT FALSE\n",
                "",
            ),
        ),
        "integration/budget/test_late_settlement.py::test_every_budget_on_the_way_has_to_be_ample[key-on the row]",
    ),
    Mutation(
        "late_though_a_node_is_tight",
        13,
        "a settlement may follow its answer though a node's budget isn't ample",
        "ledger_path_is_ample",
        (("(windows[n]).spent + 2 * ((windows[n]).reserved + bound)", "(windows[n]).spent"),),
        "integration/budget/test_late_settlement.py::test_every_budget_on_the_way_has_to_be_ample[division-on the row]",
    ),
    Mutation(
        "late_though_the_slot_is_tight",
        13,
        "a settlement may follow its answer though its slot isn't ample",
        "ledger_reserve_in_slot",
        (("s.spent + 2 * s.reserved < s.allocated", "s.spent + s.reserved < s.allocated"),),
        "integration/budget/test_late_settlement.py::test_a_slot_has_to_be_ample_too",
    ),
    Mutation(
        "late_though_tokens_are_limited",
        13,
        "a settlement may follow its answer though its bound counts in the key's tokens a minute till then",
        "ledger_reserve_on_row",
        (("NOT choice.probing AND k.tokens_per_minute IS NULL\n", "NOT choice.probing\n"),),
        "integration/budget/test_late_settlement.py::test_a_key_whose_tokens_are_limited_is_settled_first[on the row]",
    ),
    Mutation(
        "late_though_it_probes",
        13,
        "a settlement may follow its answer though others keep off the provider till then",
        "ledger_reserve_on_row",
        (("'ample', NOT choice.probing AND k.tokens", "'ample', k.tokens"),),
        "integration/budget/test_late_settlement.py::test_a_probe_is_settled_first",
    ),
    Mutation(
        "late_though_nobody_may_wait",
        13,
        "a settlement may follow its answer though a call that lacks its room till then may not wait for it",
        "fusewire.budget.ledger",
        (("            and self._max_wait_seconds > 0\n", ""),),
        "integration/budget/test_late_settlement.py::test_only_a_settlement_whose_booking_is_known_may_be_late",
    ),
    Mutation(
        "late_though_beyond_its_bound",
        13,
        "a settlement may follow its answer though it costs more than its bound",
        "fusewire.budget.ledger",
        (("            and settlement.booked <= reservation.candidate.bound\n", ""),),
        "integration/budget/test_late_settlement.py::test_only_a_settlement_whose_booking_is_known_may_be_late",
    ),
    Mutation(
        "late_settlement_lost",
        13,
        "what a handler leaves for after its answer isn't done where the platform doesn't take the answer",
        "fusewire.runtime.loop",
        (
            (
                "    try:\n        _answer(api, handler, invocation, context, own or _keep_alive)\n    finally:\n",
                "    _answer(api, handler, invocation, context, own or _keep_alive)\n    if True:\n",
            ),
        ),
        "integration/runtime/test_loop_failures.py::"
        "test_what_is_left_for_afterwards_is_done_whatever_fails[the platform]",
    ),
    Mutation(
        "late_settlement_not_kept",
        13,
        "a late settlement that can't be sent isn't kept for the environment's next reservation",
        "fusewire.budget.ledger",
        (
            (
                "            if not refused:\n                self._keep(ended)\n",
                "            if not refused and not late:\n                self._keep(ended)\n",
            ),
        ),
        "integration/budget/test_late_settlement.py::test_a_late_settlement_waits_briefly_and_is_kept",
    ),
    Mutation(
        "late_settlement_without_a_bound",
        13,
        "a late settlement keeps the environment's next event waiting for as long as a lock may take",
        "fusewire.budget.ledger",
        (("seconds=_LATE_SECONDS if late else None)", "seconds=None)"),),
        "integration/budget/test_late_settlement.py::test_a_late_settlement_waits_briefly_and_is_kept",
    ),
    # --- 14. Adjustments ---
    Mutation(
        "adjustment_beside_the_usage",
        14,
        "an adjustment is in the window and not in the usage that is rolled up",
        "ledger_adjust",
        (("        PERFORM ledger_roll_up(e, 1);\n", ""),),
        "integration/budget/test_adjustments.py::test_an_adjustment_is_in_every_sum_and_is_no_request",
    ),
    Mutation(
        "adjustment_booked_twice",
        14,
        "an adjustment that is sent again under its id is booked again under another",
        "ledger_adjust",
        (
            ("WHERE a.id = entry_id;", "WHERE false;"),
            ("    entry_id uuid := (p->>'id')::uuid;", "    entry_id uuid := gen_random_uuid();"),
        ),
        "integration/budget/test_adjustments.py::test_sent_twice_it_books_once_and_tells_its_threshold_again",
    ),
    Mutation(
        "adjustment_below_zero",
        14,
        "an adjustment takes back more than is spent, and books what is there",
        "ledger_adjust",
        (
            ("    ELSIF w.spent + amount < 0 THEN\n", "    ELSIF false THEN\n"),
            ("SET spent = spent + amount", "SET spent = greatest(spent + amount, 0)"),
        ),
        "integration/budget/test_adjustments.py::test_it_takes_back_what_is_spent_and_no_more",
    ),
    Mutation(
        "adjustment_without_the_breaker",
        14,
        "an adjustment that crosses a threshold tells nobody",
        "ledger_adjust",
        (("        IF w.closed_at IS NULL THEN\n", "        IF false THEN\n"),),
        "integration/budget/test_adjustments.py::test_it_opens_the_breaker_once_and_one_that_takes_back_closes_it",
    ),
    Mutation(
        "correction_below_zero",
        14,
        "a late settlement corrects a bound that an adjustment has taken back already",
        "ledger_settle_entry",
        (
            (
                "OR w.spent < was.cost - COALESCE(ledger_cost(settlement, was.bound), 0)",
                "OR false",
            ),
        ),
        "integration/budget/test_adjustments.py::"
        "test_a_late_correction_of_what_was_taken_back_by_hand_leaves_the_books_equal",
    ),
    # --- 14. Limits that are set at run time ---
    Mutation(
        "audited_limit_ignored",
        14,
        "the limit is the caller's setting, whatever an administrator has set",
        "ledger_limit_in_force",
        (("CASE WHEN audited IS NULL THEN", "CASE WHEN true THEN"),),
        "integration/budget/test_limits.py::"
        "test_it_stands_in_the_settings_place_whatever_a_process_was_set_to[one row]",
    ),
    Mutation(
        "limit_beyond_the_maximum",
        14,
        "an audited limit counts beyond a maximum that was lowered later",
        "ledger_limit_in_force",
        (("least(audited, (settings->>'max_limit')::numeric)", "audited"),),
        "integration/budget/test_limits.py::test_none_passes_the_deploys_maximum",
    ),
    Mutation(
        "limit_set_beyond_the_maximum",
        14,
        "a limit above the deploy's maximum is set",
        "fusewire.budget.limits",
        (("and amount > self._maximum:", "and amount < 0:"),),
        "integration/budget/test_limits.py::test_none_passes_the_deploys_maximum",
    ),
    Mutation(
        "limit_set_beside_the_slots",
        14,
        "a limit is lowered while slots of the old one go on admitting",
        "ledger_set_limit",
        (
            (
                "SELECT * INTO step FROM ledger_lock_window('global', settings, NULL);",
                "SELECT NULL::jsonb AS rolled_over, b AS w INTO step FROM budget_window b"
                " WHERE b.budget = 'global' AND b.closed_at IS NULL;",
            ),
        ),
        "integration/budget/test_limits.py::"
        "test_a_reservation_that_waits_for_a_lowered_limit_is_not_made_under_the_old_one[slots]",
    ),
    Mutation(
        "slots_allocated_under_the_setting",
        14,
        "slots are allocated parts of the setting's room while an audited limit is in force",
        "ledger_allocate_slots",
        (
            (
                "ledger_alert_of(ledger_limit_in_force(w.limit_usd, settings), settings)",
                "ledger_alert_of((settings->>'limit')::numeric, settings)",
            ),
        ),
        "integration/budget/test_limits.py::test_calls_go_on_in_slots_under_it_and_stay_below_its_threshold",
    ),
    Mutation(
        "window_limit_outlives_its_window",
        14,
        "a limit that was set for the window is in force in the next one",
        "ledger_roll_over",
        (
            (
                "SELECT l.amount INTO next_limit FROM budget_limit l WHERE l.ended_at IS NULL AND l.until IS NULL;",
                "next_limit := old.limit_usd;",
            ),
        ),
        "integration/budget/test_limits.py::test_a_limit_for_the_window_ends_with_it_and_one_for_good_stays[admin]",
    ),
    Mutation(
        "lowered_limit_tells_nobody",
        14,
        "a limit that is lowered below what is spent opens the breaker and tells nobody",
        "ledger_set_limit",
        (
            (
                "            w, ledger_limit_in_force(w.limit_usd, settings), settings, NULL, NULL, limit_id);",
                "            w, (settings->>'limit')::numeric, settings, NULL, NULL, limit_id);",
            ),
        ),
        "integration/budget/test_limits.py::"
        "test_lowered_below_what_is_spent_it_opens_the_breaker_and_nothing_is_lost[one row]",
    ),
    Mutation(
        "settlement_under_the_setting",
        14,
        "a settlement tells the thresholds of the setting while an audited limit is in force",
        "ledger_settle_entry",
        (
            (
                "ledger_record_state(w, ledger_limit_in_force(w.limit_usd, settings), settings,",
                "ledger_record_state(w, (settings->>'limit')::numeric, settings,",
            ),
        ),
        "integration/budget/test_limits.py::"
        "test_the_states_and_events_of_every_statement_are_those_of_the_limit_in_force",
    ),
    Mutation(
        "limit_without_audit",
        14,
        "a limit is set and the audit doesn't know",
        "ledger_set_limit",
        (("        written := audit_write(p, 'budget.limit_changed', before,", "        PERFORM jsonb_build_array("),),
        "integration/budget/test_limits.py::test_it_is_audited_in_its_own_transaction",
    ),
    # --- 14. Prices, as Postgres has them ---
    Mutation(
        "reserved_at_stale_prices",
        14,
        "a reservation is made at prices that are in force no more",
        "ledger_reserve_on_row",
        (("    IF price_is_stale(p) AND NOT EXISTS", "    IF false AND NOT EXISTS"),),
        "integration/budget/test_prices.py::test_a_stale_environment_reserves_nothing_and_is_told_the_prices",
    ),
    Mutation(
        "prices_read_before_the_lock",
        14,
        "prices change beside a reservation that waits, which is then made at the old ones",
        "price_change",
        (
            (
                "    SELECT l.rolled_over INTO rolled_over FROM ledger_lock_window('global', settings, NULL) l;\n",
                "",
            ),
        ),
        "integration/budget/test_prices.py::"
        "test_a_reservation_that_waits_for_a_price_change_is_not_made_at_the_old_price",
    ),
    Mutation(
        "slot_at_stale_prices",
        14,
        "a slot reserves though a scheduled price has begun",
        "ledger_reserve_in_slot",
        ((" OR price_is_stale(p) THEN", " THEN"),),
        "integration/budget/test_prices.py::test_a_slot_whose_scheduled_price_has_begun_reserves_nothing",
    ),
    Mutation(
        "scheduled_price_begins_unseen",
        14,
        "a scheduled price begins and no environment is told",
        "price_is_stale",
        (("COALESCE((p->'prices'->>'until')::timestamptz <= clock_timestamp(), false)", "false"),),
        "integration/budget/test_prices.py::test_a_scheduled_price_begins_by_postgres_clock_without_another_change",
    ),
    Mutation(
        "price_in_the_past",
        14,
        "a price begins before it was made",
        "price_add",
        (("        IF starts < clock_timestamp() THEN\n", "        IF false THEN\n"),),
        "integration/budget/test_prices.py::test_a_price_never_begins_in_the_past",
    ),
    Mutation(
        "failover_at_stale_bounds",
        14,
        "a failover keeps the bounds that it computed before the prices changed",
        "fusewire.ai.targets",
        (("        self._targets, self._downgrade = targets, downgrade\n", ""),),
        "integration/ai/test_prices.py::"
        "test_a_failover_reserves_at_the_prices_of_its_own_moment_and_ends_the_failed_attempt",
    ),
    Mutation(
        "bounds_at_another_calls_prices",
        14,
        "a call names one version of the prices and is bounded at another, which a call beside it has learnt",
        "fusewire.ai.router",
        (
            (
                "                price = prices.price(provider.id, model)\n",
                "                price = self._prices.price(provider.id, model)\n",
            ),
        ),
        "integration/ai/test_prices.py::test_a_call_keeps_its_prices_whatever_a_call_beside_it_learns",
    ),
    Mutation(
        "failed_attempt_forgotten_at_stale_prices",
        14,
        "where nobody is left that has a price, the failed attempt isn't ended",
        "fusewire.ai.attempts",
        (
            (
                "                except FusewireError:\n                    if after is not None:\n",
                "                except FusewireError:\n                    if False:\n",
            ),
        ),
        "integration/ai/test_prices.py::test_a_failover_to_a_model_that_has_lost_its_price_ends_the_failed_attempt",
    ),
    Mutation(
        "allowance_taken_back_unseen",
        14,
        "an environment that knows of a raised allowance keeps it once it is taken back",
        "fusewire.ai.router",
        (("            self._allowances.forget()\n", ""),),
        "integration/ai/test_allowances.py::"
        "test_taken_back_by_an_administrator_it_is_the_settings_again_in_every_environment",
    ),
    Mutation(
        "allowance_taken_back_beside_reservations",
        14,
        "an allowance is taken back without another version of the prices",
        "input_allowance_remove",
        (("        rolled_over := price_change(p->'settings');\n", ""),),
        "integration/budget/test_allowances.py::test_once_taken_back_no_environment_goes_on_with_what_it_knows[1]",
    ),
    Mutation(
        "zero_without_the_word",
        10,
        "a cloud model's price of 0 is taken in numbers",
        "fusewire.budget.pricing",
        (
            (
                "        if entry.is_zero() and provider not in self._local:\n            raise PriceEntryError",
                "        if False:\n            raise PriceEntryError",
            ),
        ),
        "unit/budget/test_pricing.py::TestAPriceOfZero::test_the_table_wants_the_word_for_a_cloud_model",
    ),
    # --- scopes that are bound to a node of the tree: 2 and 15 ---
    Mutation(
        "own_node_changed",
        2,
        "whoever is bound to a node raises its limit",
        "budget_node_update",
        (("WHEN was.id = p->>'within' THEN 'own'", "WHEN was.id = p->>'within' THEN NULL"),),
        "integration/functions/test_bound_scopes.py::"
        "test_ones_own_node_is_changed_by_whoever_is_above_it[admin_budgets_update]",
    ),
    Mutation(
        "own_node_reset",
        2,
        "whoever is bound to a node gives it its limit anew by a reset",
        "fusewire.budget.nodes",
        (("        if node.id == within:\n", "        if False:\n"),),
        "integration/functions/test_bound_scopes.py::"
        "test_ones_own_node_is_changed_by_whoever_is_above_it[admin_budgets_reset]",
    ),
    Mutation(
        "key_moved_out_of_the_subtree",
        2,
        "whoever is bound to a node puts a key under no node",
        "scope_governs",
        (("        scope_has_node(k.budget_id, within)\n        AND ", "        "),),
        "integration/functions/test_bound_scopes.py::"
        "test_a_key_stays_inside_and_gets_no_more_than_the_holder_has[changes2-403-None]",
    ),
    Mutation(
        "more_scope_by_rotation",
        15,
        "whoever is bound to a node gets the secret of a key that may see more",
        "key_rotate",
        (("NOT scope_governs(k, p->>'within')", "false"),),
        "integration/functions/test_bound_scopes.py::"
        "test_a_key_with_more_scope_that_is_under_the_node_is_out_of_reach[admin_keys_rotate]",
    ),
    Mutation(
        "usage_of_other_teams_told",
        15,
        "whoever is bound to a node is told the whole company's spend",
        "usage_report",
        (("ELSE ' AND r.key_id = ANY ($6)' END", "ELSE '' END"),),
        "integration/functions/test_bound_scopes.py::"
        "test_usage_is_the_subtrees_and_its_path_begins_at_the_callers_node",
    ),
    Mutation(
        "windows_of_the_company_told",
        15,
        "a month's report of a part of the tree tells the company's windows",
        "usage_report",
        (("ELSE '[]' END", "ELSE windows END"),),
        "integration/functions/test_bound_scopes.py::test_a_months_report_of_a_part_tells_no_window_of_the_company",
    ),
    Mutation(
        "attempts_of_other_teams_told",
        15,
        "whoever is bound to a node sees each attempt that was booked in any node",
        "scope_has_path",
        ((" AND w.budget = ANY (nodes)", ""),),
        "integration/functions/test_bound_scopes.py::test_attempts_are_where_they_were_booked_whatever_has_moved",
    ),
)
