"""Four teams behind one gateway, whose budgets sum to more than the company's, in front of a vendor that bills."""

import csv
import io
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from threading import Barrier

import openai

from tests.integration.budget.books import Clock
from tests.support.gateway import Books
from tests.support.guarded import ask, guarded
from tests.support.patience import PATIENCE_SECONDS
from tests.support.upstream import Upstream

INPUT_USD, OUTPUT_USD = Decimal("0.00001"), Decimal("0.01")
PRICES = '{"openai/m": {"input_mtok": 10, "output_mtok": 10000}}'
COMPANY = Decimal(4)
# By the length of a team's questions, because the vendor's bill has nothing but token counts: it counts bytes.
TEAMS = {11: Decimal("1.8"), 13: Decimal("1.8"), 17: Decimal("0.6"), 19: Decimal("0.4")}
CALLERS = 32
# The gateway opens the first window when it starts: in this month, by its own clock.
MONTH = f"{datetime.now(UTC):%Y-%m}"
DAYS = (f"{MONTH}-15", f"{MONTH}-16")


def call(client: openai.OpenAI, question: str, number: int, cap: int) -> str | None:
    """One call, every other a stream, which waits while calls in flight hold the room.

    :return: the budget that refused it, if one did
    """
    while True:
        try:
            answer = ask(client, question, max_completion_tokens=cap, stream=number % 2 == 0)
            if number % 2 == 0:
                assert list(answer)[-1].choices[0].finish_reason == "stop"
            return None
        except openai.RateLimitError as error:
            assert error.code == "budget_reserved"
            time.sleep(0.05)
        except openai.APIStatusError as error:
            assert error.status_code == 402, error
            assert isinstance(error.body, dict)
            return str(error.body["budget"])


def spend_all(client: openai.OpenAI, question: str) -> str:
    """Call until not even the smallest call fits; :return: the budget that is used up then"""
    for number in count():
        refused_by = call(client, question, number, cap=(5, 3, 2)[number % 3])
        while refused_by is not None:  # a smaller call may still fit
            refused_by = call(client, question, number, cap=1)
            if refused_by is not None:
                return refused_by
    raise AssertionError


def bill_of(billed: Iterable[tuple[int, int]]) -> dict[int, tuple[Decimal, int, int, int]]:
    """By the teams' questions, what the vendor billed: USD, calls, input and output tokens."""
    sums = {length: (Decimal(0), 0, 0, 0) for length in TEAMS}
    for tokens_in, tokens_out in billed:
        cost, calls, all_in, all_out = sums[tokens_in]
        cost += INPUT_USD * tokens_in + OUTPUT_USD * tokens_out
        sums[tokens_in] = (cost, calls + 1, all_in + tokens_in, all_out + tokens_out)
    return sums


def threshold_events(spent: Decimal, limit: Decimal) -> list[str]:
    """The events that this spending must have caused, once each."""
    thresholds = (("circuit_breaker.alert", "0.8"), ("circuit_breaker.opened", "0.95"))
    return [event for event, share in thresholds if spent >= limit * Decimal(share)]


def test_32_callers_over_four_keys_pass_no_budget_and_the_books_are_the_vendors_bill(
    tmp_path: Path, upstream: Upstream, database_url: str
) -> None:
    assert sum(TEAMS.values()) > COMPANY
    variables = {"AI_PRICE_OVERRIDES": PRICES, "AI_MONTHLY_BUDGET_USD": str(COMPANY)}
    with guarded(tmp_path, upstream, database_url, **variables) as (gateway, admin), ExitStack() as ends:
        # After the start, which migrates: what is made under this clock is made in its schema.
        clock = ends.enter_context(closing(Clock(database_url, datetime.fromisoformat(f"{DAYS[0]}T12:00:00Z"))))
        made = {length: admin.make(monthly_budget_usd=float(limit)) for length, limit in TEAMS.items()}
        keys = {length: str(key["id"]) for length, key in made.items()}
        clients = {length: gateway.openai(key=key["key"]) for length, key in made.items()}
        first_day: list[tuple[int, int]] = []

        def next_day() -> None:
            """Nobody is in flight: the smaller teams have spent all they had, the others wait."""
            gateway.settle()  # an answer may leave before its settlement, whose day is the one that is booked
            first_day.extend(upstream.billed)
            clock.advance(seconds=86_400)

        everybody = Barrier(CALLERS, action=next_day, timeout=PATIENCE_SECONDS)

        def work(number: int) -> str | None:
            length = list(TEAMS)[number % len(TEAMS)]
            client, question = clients[length], "?" * length
            if length in (17, 19):
                refused_by = spend_all(client, question)
                everybody.wait()
                return refused_by
            for each in range(3):  # few enough that the company's budget can't be what stops the smaller teams
                assert call(client, question, each, cap=3) is None
            everybody.wait()
            return spend_all(client, question)

        with ThreadPoolExecutor(CALLERS) as threads:
            refused_by = Counter(threads.map(work, range(CALLERS)))

        # What the vendor billed, by team, by day and in all, is what every one of our books says.
        bills = dict(zip(DAYS, (bill_of(first_day), bill_of(upstream.billed[len(first_day) :])), strict=True))
        usage = admin.ask("GET", f"/usage?from={DAYS[0]}&to={DAYS[1]}&group_by=key,day")
        sums = ("cost_usd", "requests", "input_tokens", "output_tokens")
        assert {(row["key"], row["day"]): tuple(row[name] for name in sums) for row in usage["rows"]} == {
            (keys[length], day): bill for day, by_team in bills.items() for length, bill in by_team.items() if bill[1]
        }
        whole = bill_of(upstream.billed)
        total = sum((cost for cost, *_ in whole.values()), Decimal(0))
        assert usage["total"] == dict(zip(sums, map(sum, zip(*whole.values(), strict=True)), strict=True))
        budget = admin.ask("GET", "/budget")
        spent = {keys[length]: cost for length, (cost, *_) in whole.items()} | {"global": total}
        listed = {row["id"]: row for row in admin.ask("GET", "/keys")["rows"]}
        assert spent == {id: row["current_spend_usd"] for id, row in listed.items()} | {
            "global": budget["current_spend_usd"]
        }
        assert {budget["reserved_usd"], *(row["reserved_usd"] for row in listed.values())} == {0}
        file = admin("GET", f"/usage?month={MONTH}&group_by=key", accept="text/csv").text
        assert {row["key"]: Decimal(row["cost_usd"]) for row in csv.DictReader(io.StringIO(file))} == {
            keys[length]: cost for length, (cost, *_) in whole.items()
        }
        books = Books(database_url)
        assert books.one("SELECT sum(cost) FROM ledger") == total
        books.balance()

        # Not a cent over any budget, and who was stopped was stopped by one that is used up.
        limits = {keys[length]: limit for length, limit in TEAMS.items()} | {"global": COMPANY}
        for name, limit in limits.items():
            assert spent[name] <= limit
            assert name not in refused_by or spent[name] >= limit * Decimal("0.95")
        assert refused_by[keys[17]] == refused_by[keys[19]] == CALLERS / len(TEAMS)
        assert refused_by["global"] > 0, "four used-up budgets would be more than the company's"

        lines = [
            (line["event"], line.get("key_id", "global"))
            for line in gateway.lines()
            if line.get("event") in ("circuit_breaker.alert", "circuit_breaker.opened")
        ]
        assert sorted(lines) == sorted(
            (event, name) for name, limit in limits.items() for event in threshold_events(spent[name], limit)
        )
        assert len(lines) == books.one("SELECT count(*) FROM budget_threshold_event")
