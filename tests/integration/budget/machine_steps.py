"""What the steps of `test_reference.py` are drawn from."""

from datetime import timedelta
from decimal import Decimal
from typing import Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.integration.budget.machine import Caller, Ending
from tests.integration.budget.wire import Break

TTL = timedelta(seconds=180)
KEYS: Final = ("key-a", "key-b")

amounts: SearchStrategy[Decimal] = st.one_of(
    st.sampled_from([Decimal(0), Decimal("0.1"), Decimal("0.2"), Decimal("0.15"), Decimal("0.8"), Decimal("0.95")]),
    st.decimals(0, 1, places=12),
    st.integers(1, 1000).map(lambda n: Decimal(n).scaleb(-3)),
    st.integers(1, 20).map(lambda n: Decimal(n).scaleb(-3)),  # small enough for a slot's part
)
corrections: SearchStrategy[Decimal] = st.tuples(amounts.filter(bool), st.sampled_from([1, -1])).map(
    lambda drawn: drawn[0] * drawn[1]
)
# Above its bound too: the vendor bills more than it was asked for.
shares: SearchStrategy[Decimal] = st.one_of(st.decimals(0, 1, places=6), st.just(Decimal("1.2")))
allowances: SearchStrategy[int | None] = st.sampled_from([None, None, None, 1, 200])
sizes: SearchStrategy[int | None] = st.sampled_from([None, 100, 3000])
endings: SearchStrategy[Ending] = st.one_of(
    st.builds(Ending, st.just("actual"), shares, allowances, sizes),
    st.builds(Ending, st.just("bound"), st.one_of(st.none(), shares), allowances),
    st.just(Ending("release")),
)
steps = st.sampled_from(
    [
        timedelta(0),
        timedelta(microseconds=1),
        timedelta(seconds=1.5),
        timedelta(seconds=6),
        timedelta(seconds=59),
        TTL,
        timedelta(days=1),
        timedelta(days=3),
    ]
)
delays = st.sampled_from([timedelta(0), timedelta(0), timedelta(seconds=59), timedelta(days=1)])
key_ids = st.sampled_from([None, *KEYS])
tokens = st.sampled_from([0, 10, 400, 700, 1001])
caps: SearchStrategy[int | None] = st.sampled_from([None, None, 200, 3_000, 20_000, 60_000])
callers = st.builds(
    Caller, amounts, tokens, key_ids, st.sampled_from(["alice", "alice", "bob", None]), caps, st.booleans()
)
places = st.integers(0, 5)
"""Of a node or a waiting call among those that there are."""
changes: SearchStrategy[dict[str, object]] = st.sampled_from(
    [
        {"limit_usd": None},
        {"limit_usd": Decimal("0.05")},
        {"limit_usd": Decimal("0.3")},
        {"limit_usd": Decimal("0.6")},
        {"limit_usd": Decimal(2)},
        {"period": "day"},
        {"period": "week"},
        {"period": "month"},
        {"period": "none"},
        {"alert_threshold": Decimal("0.1"), "open_threshold": Decimal("0.5")},
        {"alert_threshold": None, "open_threshold": None},
        {"alert_threshold": Decimal("0.97")},
        {"models": ["openai/*"]},
        {"models": ["vllm/*", "cost_effective"]},
        {"models": None},
    ]
)
prices = st.sampled_from([Decimal(1), Decimal("0.5"), Decimal("1.5")])
moments: SearchStrategy[Break] = st.sampled_from(["before", "after"])
losses: SearchStrategy[tuple[Break, ...]] = st.sampled_from(
    [("before",), ("after",), ("before", "before"), ("before", "after"), ("after", "before"), ("after", "after")]
)
