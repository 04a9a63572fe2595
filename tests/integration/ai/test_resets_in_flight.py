"""32 execution environments in mid-call when an admin resets the company's budget, and one team's."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from fusewire.budget.breaker import Window
from fusewire.errors import BudgetReservedError
from fusewire.services import Services
from tests.conftest import CoreFactory
from tests.integration.ai.contract import chat
from tests.integration.ai.observing import LogLines, caller, price_of, two_clouds
from tests.support.gateway import Books, eventually
from tests.support.patience import PATIENCE_SECONDS
from tests.support.upstream import Upstream

CALLS = 32
TEAMS = ("key_a", "key_b", "key_c", "key_d")


def call(services: Services, key_id: str, *, stream: bool = False) -> Decimal:
    """One call of a team's, a stream read to its end; :return: what it cost"""
    who = replace(caller(), key_id=key_id)
    if not stream:
        return services.router.complete(chat(max_tokens=50), who)[1].booked.cost
    *_, last = services.router.stream(chat(stream=True, max_tokens=50), who).chunks
    assert last.usage is not None
    return Decimal(str(last.usage.cost))


def test_32_calls_in_flight_are_booked_in_the_windows_that_a_reset_closed(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, log: LogLines, database_url: str
) -> None:
    books = Books(database_url)
    with psycopg.connect(database_url) as connection:
        for key in TEAMS:
            connection.execute(
                "INSERT INTO api_key (id, name, scopes, created_at, created_by) VALUES (%s, %s, '{}', now(), 'test')",
                (key, key),
            )
    probe = core(**two_clouds(upstream, second_upstream))
    call(probe, TEAMS[0])
    bound = books.one("SELECT bound FROM ledger")
    cost = price_of("azure", *upstream.billed[0])
    probe.ledger.reset(actor="admin", source_ip=None, request_id="before", reason=None)
    probe.ledger.reset(actor="admin", source_ip=None, request_id="before", reason=None, budget=TEAMS[0])

    # Room for exactly as many as will be in flight.
    as_asked = {"AI_OUTPUT_CAP_POLICY": "strict", "AI_ADMISSION_WAIT_SECONDS": "0"}
    variables = two_clouds(upstream, second_upstream, AI_MONTHLY_BUDGET_USD=str(CALLS * bound), **as_asked)
    environments = [core(**variables) for _ in range(CALLS)]
    admin = core(**variables)
    upstream.going_on.clear()
    upstream.requests.clear()
    try:
        with ThreadPoolExecutor(CALLS + 1) as pool:
            flying = [
                pool.submit(call, environment, TEAMS[number % 4], stream=number % 8 < 4)
                for number, environment in enumerate(environments)
            ]
            eventually(lambda: len(upstream.requests) == CALLS)
            with pytest.raises(BudgetReservedError):
                call(admin, TEAMS[0])
            company = admin.ledger.reset(actor="admin", source_ip=None, request_id="reset", reason=None)
            team = admin.ledger.reset(actor="admin", source_ip=None, request_id="reset", reason=None, budget=TEAMS[0])
            late = pool.submit(call, admin, TEAMS[0])
            eventually(lambda: len(upstream.requests) == CALLS + 1)
            upstream.going_on.set()
            costs = [each.result(timeout=PATIENCE_SECONDS) for each in flying]
            assert late.result(timeout=PATIENCE_SECONDS) == cost
    finally:
        upstream.going_on.set()

    assert costs == [cost] * CALLS
    for (closed, opened), calls in ((company, CALLS), (team, CALLS // 4)):
        assert sums(closed) == (0, calls * bound, 0)
        assert booked(books, closed) == (calls * cost, 0, calls)
        assert sums(opened) == (0, 0, 0)
        assert booked(books, opened) == (cost, 0, 1)
    # The company's reset leaves the other teams' windows as they are.
    others = "SELECT spent, closed_at FROM budget_window WHERE budget IN ('key_b', 'key_c', 'key_d')"
    assert books.rows(others) == [(CALLS // 4 * cost, None)] * 3
    assert books.rows("SELECT DISTINCT status, cost_basis FROM ledger") == [("settled", "actual")]
    books.balance()
    assert len(log.events("circuit_breaker.manual_reset")) == 4
    assert not log.events("circuit_breaker.alert"), "an end in a closed window crosses nothing"


def sums(window: Window) -> tuple[Any, ...]:
    """As the reset told them."""
    return window.spent, window.reserved, window.request_count


def booked(books: Books, window: Window) -> tuple[Any, ...]:
    """As they stand now."""
    found = books.rows(f"SELECT spent, reserved, request_count FROM budget_window WHERE id = {window.id}")  # noqa: S608
    return found[0]
