"""Everything that can happen to the ledger, each as one statement, and the states that it can happen in.

Ids and times are fixed, so that two runs of the same statements differ in nothing but what an overlap changed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Literal, LiteralString
from uuid import NAMESPACE_OID, UUID, uuid5

from fusewire.budget.wire import Period, SettlementMode

Fields = Mapping[str, Any]
"""A statement's argument but for its settings."""
Function = Literal[
    "ledger_reserve",
    "ledger_settle",
    "ledger_give_back",
    "ledger_group",
    "admission_withdraw",
    "ledger_budget",
    "ledger_reset",
    "ledger_set_limit",
    "key_update",
    "key_revoke",
    "budget_node_update",
    "budget_node_delete",
]

NodeRow = tuple[str, str | None, Decimal, Period]
"""Of a budget of the tree: id, parent, limit in USD, period."""

NOW: Final = datetime(2026, 11, 15, 12, tzinfo=UTC)
TTL: Final = timedelta(seconds=180)
LIMIT: Final = Decimal(1)
KEY: Final = "key-a"
BOUND: Final = Decimal("0.05")
COST: Final = Decimal("0.04")
NEXT_MONTH: Final = datetime(2026, 12, 1, 0, 1, tzinfo=UTC) - NOW

LATE: Final = UUID(int=1)
"""Expired and settled at its bound, an hour ago."""
HELD: Final = UUID(int=2)
"""Under way, and of no key."""
KEYED: Final = UUID(int=3)
"""Under way, of the key."""
GONE: Final = UUID(int=4)
"""Of the key, too; has expired where a state says so, and nobody has noticed."""
FILLER: Final = UUID(int=5)
"""What else fills the window or the key's."""
GRANT: Final = UUID(int=6)
FAILED: Final = UUID(int=7)

SECOND: Final = 2
"""The session that comes first where one is held, so that it is the one whose answer may be lost."""

CALLS: Final[dict[str, LiteralString]] = {
    "ledger_reserve": "SELECT set_config('test.now', %s, false), ledger_reserve(%s::jsonb)",
    "ledger_settle": "SELECT set_config('test.now', %s, false), ledger_settle(%s::jsonb)",
    "ledger_give_back": "SELECT set_config('test.now', %s, false), ledger_give_back(%s::jsonb)",
    "ledger_group": "SELECT set_config('test.now', %s, false), ledger_group(%s::jsonb)",
    "admission_withdraw": "SELECT set_config('test.now', %s, false), admission_withdraw(%s::jsonb)",
    "ledger_budget": "SELECT set_config('test.now', %s, false), ledger_budget(%s::jsonb)",
    "ledger_reset": "SELECT set_config('test.now', %s, false), ledger_reset(%s::jsonb)",
    "ledger_set_limit": "SELECT set_config('test.now', %s, false), ledger_set_limit(%s::jsonb)",
    "key_update": "SELECT set_config('test.now', %s, false), key_update(%s::jsonb)",
    "key_revoke": "SELECT set_config('test.now', %s, false), key_revoke(%s::jsonb)",
    "budget_node_update": "SELECT set_config('test.now', %s, false), budget_node_update(%s::jsonb)",
    "budget_node_delete": "SELECT set_config('test.now', %s, false), budget_node_delete(%s::jsonb)",
}


@dataclass(frozen=True)
class Statement:
    """One statement, as the session with a number asks it: what it makes has an id of that session's."""

    name: str
    function: Function
    fields: Callable[[int], Fields]
    after: timedelta = timedelta(0)
    """How long after the state's own time."""
    limit: Decimal = LIMIT
    ttl: timedelta = TTL
    overbills: Decimal = Decimal(0)
    """USD beyond a bound, which nobody could have refused."""
    resent: bool = False
    passes_over: bool = False
    """It expires what is in the company's closed windows, but for those that are locked (`ledger_expire_closed`)."""

    def argument(self, session: int, slots: int) -> dict[str, object]:
        settings = {
            "limit": self.limit,
            "alert": Decimal("0.8"),
            "open": Decimal("0.95"),
            "timezone": "UTC",
            "ttl_seconds": self.ttl.total_seconds(),
            "slots": slots,
        }
        return {"settings": settings, **self.fields(session)}


def made(what: str, session: int) -> UUID:
    """The id that this session gives to what it asks for."""
    return uuid5(NAMESPACE_OID, f"{what} {session}")


def reservation(entry_id: UUID, key_id: str | None = None, bound: Decimal = BOUND, *providers: str) -> Fields:
    return {
        "entry": {
            "id": str(entry_id),
            "request_id": f"call-{entry_id}",
            "attempt": 1,
            "operation": "chat",
            "tier": "sota",
            "key_id": key_id,
        },
        "candidates": [
            {"provider": provider, "model": "gpt", "bound": bound, "tokens": 300}
            for provider in providers or ("openai", "azure")
        ],
        "probe_seconds": 30,
    }


def settlement(entry_id: UUID, mode: SettlementMode, cost: Decimal | None = None) -> dict[str, object]:
    used = {"actual": (10, 20)}.get(mode, (0, 0))
    return {
        "settlement": {
            "id": str(entry_id),
            "mode": mode,
            "outcome": {"actual": "success", "bound": "read_timeout", "release": "connect_failed"}[mode],
            "cost": cost,
            "input_tokens": used[0],
            "output_tokens": used[1],
        }
    }


def failed(provider: str, seconds: int = 60) -> Fields:
    return {
        "health_update": {
            "provider": provider,
            "effect": "count",
            "seconds": seconds,
            "threshold": 1,
            "max_seconds": 600,
            "kind": "server_error",
            "message": None,
        }
    }


ANSWERED: Final[Fields] = {"health_update": {"provider": "openai", "effect": "ok"}}


def reset(session: int, opened_by: str, budget: str | None = None) -> Fields:
    return {
        "id": str(made(f"reset of {budget}", session)),
        "opened_by": opened_by,
        "at": NOW.isoformat() if opened_by == "schedule" else None,
        "budget": budget,
        "actor": opened_by,
        "source_ip": None,
        "request_id": f"reset-{session}",
        "reason": None,
    }


def administered(session: int, **changes: object) -> Fields:
    act = {"actor": "admin", "source_ip": None, "request_id": f"admin-{session}"}
    return {"id": KEY, "changes": changes, "audit_context": act}


def _set_limit(session: int, amount: Decimal) -> Fields:
    by = {"actor": "admin", "source_ip": None, "request_id": f"admin-{session}"}
    given = {"amount": amount, "until": "window", "reason": "stop it"}
    return {"id": str(made("limit", session)), **given, "audit_context": by}


def again(fields: Callable[[int], Fields]) -> Callable[[int], Fields]:
    """What the second session asks, sent by whichever session: that one's answer was lost with its connection."""
    return lambda session: {**fields(SECOND), "resent": True}


def _reserve(session: int) -> Fields:
    return reservation(made("call", session))


def _reserve_for_key(session: int) -> Fields:
    return reservation(made("call of the key", session), KEY)


def _fail_over(session: int) -> Fields:
    return {
        **reservation(made("successor", session), None, BOUND, "azure"),
        **settlement(HELD, "bound"),
        **failed("openai"),
    }


def _fail_over_for_key(session: int) -> Fields:
    """To what costs so little that the slots are allocated anew."""
    successor = reservation(made("successor of the key's", session), KEY, Decimal("0.001"))
    return {**successor, **settlement(GONE, "release"), **failed("azure")}


def _read(session: int) -> Fields:
    return {"id": str(made("sweep", session))}


def _end(
    entry_id: UUID, mode: SettlementMode, cost: Decimal | None = None, noted: Fields | None = None
) -> Callable[[int], Fields]:
    return lambda _: {**settlement(entry_id, mode, cost), **(noted or {})}


def _give_back(entry_id: UUID) -> Callable[[int], Fields]:
    return lambda _: {"id": str(entry_id), "bound": COST, "tokens": 200}


def group(*calls: Callable[[int], Fields]) -> Callable[[int], Fields]:
    """Sent together."""

    def fields(session: int) -> Fields:
        made = [call(session) for call in calls]
        return {"calls": [{"reserve" if "entry" in each else "settle": each} for each in made]}

    return fields


_SETTLE: Final = _end(HELD, "actual", COST, ANSWERED)
_ABOVE: Final = Decimal("0.9")

STATEMENTS: Final = (
    Statement("reserve", "ledger_reserve", _reserve),
    Statement(
        "reserve what costs nothing",
        "ledger_reserve",
        lambda session: reservation(made("free call", session), KEY, Decimal(0)),
    ),
    Statement("reserve for the key", "ledger_reserve", _reserve_for_key, passes_over=True),
    Statement(
        "reserve, or less where it is HALF_OPEN",
        "ledger_reserve",
        lambda session: {
            **reservation(made("call that may be less", session), KEY),
            "downgrade": {
                "tier": "small",
                "candidates": [{"provider": "vllm", "model": "llama", "bound": Decimal("0.01"), "tokens": 30}],
            },
        },
        passes_over=True,
    ),
    Statement(
        "reserve under a lowered limit",
        "ledger_reserve",
        lambda session: {
            **reservation(made("call under another limit", session)),
            "settings_snapshot": {"limit": "0.3"},
        },
        limit=Decimal("0.3"),
    ),
    Statement(
        "reserve in the next month",
        "ledger_reserve",
        lambda session: reservation(made("call of the next month", session), KEY),
        after=NEXT_MONTH,
        passes_over=True,
    ),
    Statement("reserve again", "ledger_reserve", again(_reserve_for_key), resent=True, passes_over=True),
    Statement("fail over", "ledger_reserve", _fail_over),
    Statement("fail over for the key", "ledger_reserve", _fail_over_for_key),
    Statement("fail over again", "ledger_reserve", again(_fail_over), resent=True),
    Statement("settle", "ledger_settle", _SETTLE),
    Statement("settle above its bound", "ledger_settle", _end(HELD, "actual", _ABOVE), overbills=_ABOVE - BOUND),
    Statement("settle at its bound", "ledger_settle", _end(HELD, "bound")),
    Statement("release", "ledger_settle", _end(HELD, "release")),
    Statement("settle again", "ledger_settle", lambda session: {**_SETTLE(session), "resent": True}, resent=True),
    Statement("settle in the next month", "ledger_settle", _SETTLE, after=NEXT_MONTH),
    Statement("settle the key's", "ledger_settle", _end(KEYED, "actual", COST, ANSWERED)),
    Statement("settle what is gone", "ledger_settle", _end(GONE, "actual", COST)),
    Statement(
        "settle what is gone above its bound",
        "ledger_settle",
        _end(GONE, "actual", 2 * BOUND),
        overbills=BOUND,
    ),
    Statement("settle late", "ledger_settle", _end(LATE, "actual", Decimal("0.03"))),
    Statement("release late", "ledger_settle", _end(LATE, "release")),
    Statement(
        "release what nothing was sent on",
        "ledger_settle",
        lambda _: {
            "settlement": {"id": str(made("call", SECOND)), "mode": "release", "outcome": "not_sent"},
            "resent": True,
        },
        resent=True,
    ),
    Statement(
        "a group",
        "ledger_group",
        group(_reserve_for_key, _end(KEYED, "actual", COST, ANSWERED), _reserve, _SETTLE),
        passes_over=True,
    ),
    Statement(
        "a group of what is gone and what is new",
        "ledger_group",
        group(_end(GONE, "bound"), _end(LATE, "actual", Decimal("0.03")), _reserve),
    ),
    Statement("give back", "ledger_give_back", _give_back(HELD)),
    Statement("give the key's back", "ledger_give_back", _give_back(KEYED)),
    Statement("give back what is gone", "ledger_give_back", _give_back(GONE)),
    Statement("read the budget", "ledger_budget", _read),
    Statement("read the budget an hour later", "ledger_budget", _read, after=timedelta(hours=1)),
    Statement("reset", "ledger_reset", lambda session: reset(session, "admin")),
    Statement("reset again", "ledger_reset", again(lambda session: reset(session, "admin")), resent=True),
    Statement("reset the key", "ledger_reset", lambda session: reset(session, "admin", KEY)),
    Statement(
        "lower the key's budget",
        "key_update",
        lambda session: administered(session, monthly_budget_usd=Decimal("0.12")),
    ),
    Statement("lower the limit", "ledger_set_limit", lambda session: _set_limit(session, Decimal("0.3"))),
    Statement(
        "lower the limit again",
        "ledger_set_limit",
        again(lambda session: _set_limit(session, Decimal("0.3"))),
        resent=True,
    ),
    Statement("revoke the key", "key_revoke", administered),
    Statement("scheduled reset", "ledger_reset", lambda session: reset(session, "schedule")),
)


@dataclass(frozen=True)
class Step:
    """What has happened before a state begins."""

    ago: timedelta
    statement: Statement
    slots: int = 1
    seat: int = 1
    """The slot of the session that asks, where there are two."""


@dataclass(frozen=True)
class Start:
    """A state, by how it came about, and the sessions that meet in it."""

    name: str
    history: tuple[Step, ...]
    now: datetime = NOW
    slots: tuple[int, ...] = (1, 1, 1)
    """AI_LEDGER_SLOTS of the first, second and third session."""
    seats: tuple[int, ...] = (1, 2, 1)
    """The slots that the sessions fall to, where there are two."""
    key: Mapping[str, Any] | None = None
    """What the key is limited to."""
    still: bool = False
    """No time passes in it."""
    nodes: tuple[NodeRow, ...] = ()
    """The tree."""
    is_busy: bool = False
    """The room of every budget is in slots where the company's is."""
    statements: tuple[Statement, ...] = STATEMENTS
    """What happens in it."""

    @property
    def key_limit(self) -> Decimal | None:
        budget = (self.key or {}).get("budget")
        return None if budget is None else Decimal(str(budget))

    @property
    def limits(self) -> dict[str, Decimal]:
        """What no window below the company's passes, by the budget."""
        keys = {} if self.key_limit is None else {KEY: self.key_limit}
        return keys | {node_id: limit for node_id, _, limit, _ in self.nodes}


_HOUR: Final = timedelta(hours=1)
_MINUTE: Final = timedelta(minutes=1)
LATELY: Final = timedelta(seconds=3)
"""Less than the 5 s after which a reserve writes down that it looked, whether or not it found anything."""
_BRIEF: Final = timedelta(seconds=1)


def step(
    ago: timedelta, function: Function, fields: Fields, ttl: timedelta = TTL, *, slots: int = 1, seat: int = 1
) -> Step:
    return Step(ago, Statement("", function, lambda _: fields, ttl=ttl), slots, seat)


EARLIER: Final = (
    step(_HOUR, "ledger_reserve", reservation(LATE)),
    step(_HOUR, "ledger_reserve", reservation(FAILED, None, BOUND, "azure")),
    step(_HOUR, "ledger_settle", {**settlement(FAILED, "release"), **failed("azure", 1)}),
    step(50 * _MINUTE, "ledger_budget", {"id": str(UUID(int=0x99))}),
)


def _holding(ttl_of_gone: timedelta = TTL) -> tuple[Step, ...]:
    return (
        step(LATELY, "ledger_reserve", reservation(HELD)),
        step(LATELY, "ledger_reserve", reservation(KEYED, KEY)),
        step(LATELY, "ledger_reserve", reservation(GONE, KEY), ttl_of_gone),
    )


def _filled(bound: str, key_id: str | None = None, *, spent: bool = True) -> tuple[Step, ...]:
    reserved = step(40 * _MINUTE, "ledger_reserve", reservation(FILLER, key_id, Decimal(bound)), _HOUR)
    return (reserved, step(40 * _MINUTE, "ledger_settle", settlement(FILLER, "bound"))) if spent else (reserved,)


def _in_slots(ttl_of_gone: timedelta = TTL) -> tuple[Step, ...]:
    """Two of the three are in slots; the third is where there is room for it."""
    return (
        step(35 * _MINUTE, "ledger_reserve", reservation(GRANT, KEY, Decimal("0.001")), slots=2),
        step(35 * _MINUTE, "ledger_settle", settlement(GRANT, "release"), slots=2),
        step(LATELY, "ledger_reserve", reservation(HELD), slots=2, seat=1),
        step(LATELY, "ledger_reserve", reservation(KEYED, KEY), slots=2, seat=2),
        step(LATELY, "ledger_reserve", reservation(GONE, KEY), ttl_of_gone, slots=2, seat=1),
    )


RESET: Final = step(LATELY, "ledger_reset", reset(0x99, "admin"))

STARTS: Final = (
    # A sweep doesn't see the very first window while it is being opened. What is reserved there would have to expire
    # within the 5 s that a lock is waited for to be missed, and then only until the next sweep.
    Start("nothing yet", (), still=True),
    Start("before the key's first call", EARLIER + _holding()[:1]),
    Start("room", EARLIER + _holding()),
    Start("room for one", EARLIER + _filled("0.75", spent=False) + _holding()),
    Start("below the threshold", EARLIER + _filled("0.71") + _holding()),
    Start("expired", EARLIER + _holding(_BRIEF)),
    Start("expired below the threshold", EARLIER + _filled("0.71") + _holding(_BRIEF)),
    Start("after a reset", (*EARLIER, *_holding(), RESET)),
    Start("the month is over", EARLIER + _holding(), now=NOW + NEXT_MONTH),
    Start("a key with room for one", EARLIER + _holding(), key={"budget": "0.15"}),
    Start(
        "a key below its threshold, expired, after a reset",
        (*EARLIER, *_filled("0.20", KEY), *_holding(_BRIEF), RESET),
        key={"budget": "0.30"},
    ),
    Start("a key with one call left in its minute", EARLIER + _holding(), key={"requests": 3, "tokens": 1000}),
    Start("slots, same", EARLIER + _in_slots(), slots=(2, 2, 2), seats=(1, 1, 1)),
    Start("slots, apart", EARLIER + _in_slots(), slots=(2, 2, 2)),
    Start("slots with room for one, same", EARLIER + _filled("0.448") + _in_slots(), slots=(2, 2, 2), seats=(1, 1, 1)),
    Start("slots with room for one, apart", EARLIER + _filled("0.448") + _in_slots(), slots=(2, 2, 2)),
    Start("slots, expired", EARLIER + _in_slots(_BRIEF), slots=(2, 2, 2)),
    Start("slots, with a key", EARLIER + _in_slots(), slots=(2, 2, 2), key={"budget": "0.15"}),
    Start("slots, seen by one of two", EARLIER + _in_slots(), slots=(1, 2, 1)),
)
