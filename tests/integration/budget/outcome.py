"""What everybody was told and what the tables hold, made comparable between one order of the statements and another."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Answer = Any
"""An answer, with windows called by their places."""

_WINDOW_IDS: Final = ("id", "window_id", "key_window_id", "path_window_ids")

_SEEN: Final = ("settled", "rolled_over", "key_rolled_over", "path_rolled_over", "expired", "threshold_events")
"""What is told to the first alone that sees it."""

BOOKS: Final = """
    SELECT jsonb_build_object(
        'windows', (SELECT jsonb_agg(to_jsonb(w) - '{lock_waits,slots,slots_changed_at}'::text[] || jsonb_build_object(
                'spent', w.spent + COALESCE(s.spent, 0), 'reserved', w.reserved + COALESCE(s.reserved, 0),
                'request_count', w.request_count + COALESCE(s.calls, 0)) ORDER BY w.id)
            FROM budget_window w LEFT JOIN (
                SELECT window_id, sum(spent) AS spent, sum(reserved) AS reserved, sum(request_count) AS calls
                FROM budget_slot GROUP BY 1) s ON s.window_id = w.id),
        'entries', (SELECT jsonb_agg(to_jsonb(l) - '{slot,slot_epoch,slotted_window_ids}'::text[] ORDER BY l.id)
            FROM ledger l),
        'rollups', (SELECT jsonb_agg(to_jsonb(r) ORDER BY r.window_id, r.day, r.provider, r.model, r.tier, r.key_id)
            FROM (SELECT window_id, day, provider, model, tier, key_id, sum(cost) AS cost, sum(requests) AS requests,
                         sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens
                  FROM usage_rollup GROUP BY 1, 2, 3, 4, 5, 6) r),
        'threshold_events', (SELECT jsonb_agg(to_jsonb(t) ORDER BY t.window_id, t.state, t.spent)
            FROM budget_threshold_event t),
        'health', (SELECT jsonb_agg(to_jsonb(h) - 'last_success_at' ORDER BY h.provider) FROM provider_health h),
        'audit', (SELECT jsonb_agg(to_jsonb(a) - '{id,hash}'::text[] ORDER BY a.n) FROM audit a),
        'nodes', (SELECT jsonb_agg(to_jsonb(n) ORDER BY n.id) FROM budget_node n),
        'line', (SELECT jsonb_agg(to_jsonb(t) - 'ticket' ORDER BY t.ticket) FROM admission_wait t),
        'sizes', (SELECT jsonb_agg(to_jsonb(o) ORDER BY o.provider, o.model, o.key_id) FROM output_size o),
        'keys', (SELECT jsonb_agg(to_jsonb(k)) FROM api_key k),
        'limits', (SELECT jsonb_agg(to_jsonb(l) ORDER BY l.id) FROM budget_limit l),
        'settings', (SELECT jsonb_agg(s.settings) FROM settings_snapshot s),
        'slots', jsonb_build_array(
            (SELECT jsonb_agg(to_jsonb(s) ORDER BY s.window_id, s.slot) FROM budget_slot s),
            (SELECT jsonb_agg(jsonb_build_array(l.id, l.slot, l.slot_epoch) ORDER BY l.id) FROM ledger l
             WHERE l.slot IS NOT NULL))) AS books
"""

BROKEN: Final = """
    SELECT 'audit' AS what, a.n FROM (
        SELECT a, lag(a.hash, 1, '') OVER (ORDER BY a.n) AS previous, lag(a.n, 1, 0) OVER (ORDER BY a.n) AS before
        FROM audit a) chained JOIN audit a ON a.n = (chained.a).n
    WHERE a.hash <> audit_hash(chained.previous, chained.a) OR a.n <> chained.before + 1
    UNION ALL
    SELECT 'audit_head', h.n FROM audit_head h
    WHERE (h.n, h.hash) IS DISTINCT FROM (SELECT (a.n, a.hash) FROM audit a ORDER BY a.n DESC LIMIT 1)
          AND (h.n > 0 OR EXISTS (SELECT FROM audit))
    UNION ALL
    SELECT 'reserved, and past its expiry search', w.id FROM ledger l JOIN budget_window w ON w.id = l.window_id
    WHERE l.status = 'reserved' AND l.expires_at <= w.expired_until
    UNION ALL
    SELECT 'slot', s.slot FROM budget_slot s WHERE (s.spent, s.reserved) <> (
        SELECT COALESCE(sum(l.cost) FILTER (WHERE l.status = 'settled'), 0),
               COALESCE(sum(l.bound) FILTER (WHERE l.status = 'reserved'), 0)
        FROM ledger l WHERE l.slot = s.slot AND CASE
            WHEN s.window_id IN (SELECT w.id FROM budget_window w WHERE w.budget = 'global')
            THEN (l.window_id, l.slot_epoch) = (s.window_id, s.epoch)
            ELSE s.window_id = ANY (l.slotted_window_ids) AND EXISTS (
                SELECT FROM budget_slot c WHERE (c.window_id, c.slot, c.epoch) = (l.window_id, l.slot, l.slot_epoch))
        END)
    UNION ALL
    SELECT 'allocated', w.id FROM budget_window w JOIN budget_slot s ON s.window_id = w.id
    GROUP BY w.id
    HAVING sum(s.allocated) > 0 AND min(s.ceiling) < 'Infinity'
           AND w.spent + w.reserved + sum(s.allocated) >= min(s.ceiling)
    UNION ALL
    SELECT 'allocated in a closed window', w.id FROM budget_window w JOIN budget_slot s ON s.window_id = w.id
    WHERE s.allocated > 0 AND w.closed_at IS NOT NULL
"""


@dataclass(frozen=True)
class Outcome:
    """What everybody was told, by their numbers, and what the tables hold afterwards."""

    result: Mapping[int, Answer]
    books: Mapping[str, Any]

    def threshold_events(self) -> Counter[tuple[object, ...]]:
        """How often each was told."""
        return counts_of(self.result.values())


def comparable(answer: Mapping[str, Any], slots: int, *, each: bool) -> Answer:
    """Without what is told of a budget as it stands without a lock.

    :param each: whether every budget has slots, and not the company's alone
    """
    if "results" in answer:
        results = [None if one is None else comparable(one, slots, each=each) for one in answer["results"]]
        return {
            "results": results,
            "threshold_events": [t for one in results for t in (one or {}).get("threshold_events", ())],
        }
    result = {name: value for name, value in answer.items() if value is not None}
    if "ticket" in result or "waiting" in result:  # which of the two is a matter of what it looked at without a lock
        result = {"waits": True, **{name: value for name, value in result.items() if name in _SEEN}}
    if "written" in answer:  # a key was changed, which locks no window of it
        result = {name: value for name, value in result.items() if name not in ("budget", "days")}
    elif slots > 1 and "by_model" not in result:  # decision 7
        result.pop("budget", None)
        # It is of the slot, and a call that meets another takes another slot.
        result.pop("ample", None)
        if each:
            result.pop("key", None)
    if "expired" in result:  # in whatever order they lie
        result["expired"] = sorted(result["expired"], key=lambda entry: str(entry["request_id"]))
    return result


def refusals_of(answer: Answer) -> list[str]:
    """What was refused in it, a call or those of a group."""
    return [one["refused"] for one in answer.get("results", [answer]) if one is not None and "refused" in one]


def check_end(settlement: Mapping[str, Any] | None, answer: Answer, entries: Sequence[Mapping[str, Any]]) -> None:
    """An entry ends once: whoever ended it, or tried to, was told what it is for good."""
    response = answer.get("ended", answer)
    if settlement is None or response.get("status") is None:  # no settlement, or of an entry that wasn't there
        return
    [entry] = [entry for entry in entries if entry["id"] == settlement["id"]]
    kept = ("status", "cost", "cost_basis")
    assert [response.get(name) for name in kept] == [entry[name] for name in kept]


def counts_of(answers: Iterable[Answer]) -> Counter[tuple[object, ...]]:
    """How often these tell each threshold event."""
    return Counter(
        (event["window_id"], event["state"], event["spent"], event["limit"])
        for answer in answers
        for event in answer.get("threshold_events") or ()
    )


def placed(value: Any, books: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON is anything
    """An answer, or the books themselves, with windows called by their places: ids are lost with whoever rolls back."""
    counted: Counter[str] = Counter()
    names = {}
    for window in books["windows"] or ():
        counted[window["budget"]] += 1
        names[window["id"]] = f"{window['budget']}, {counted[window['budget']]}"
    return _renamed(value, names)


def _renamed(value: Any, names: Mapping[int, str]) -> Any:  # noqa: ANN401 - JSON is anything
    if isinstance(value, list):
        return [_renamed(each, names) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        name: _placed_id(each, names) if name in _WINDOW_IDS else _renamed(each, names) for name, each in value.items()
    }


def _placed_id(value: Any, names: Mapping[int, str]) -> Any:  # noqa: ANN401 - JSON is anything
    if isinstance(value, list):
        return [_placed_id(each, names) for each in value]
    return names.get(value, value) if isinstance(value, int) else value


def recorded(threshold_events: Sequence[Mapping[str, Any]] | None) -> Counter[tuple[object, ...]]:
    return Counter((c["window_id"], c["state"], c["spent"], c["limit_usd"]) for c in threshold_events or ())
