"""Prices that change while environments run: a call is bounded, reserved and settled at one version of them."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import psycopg
import pytest

from fusewire.ai.bounds import chat_input_bound
from fusewire.budget.audit_context import AuditContext
from fusewire.budget.price_table import NO_PRICES
from fusewire.errors import AllProvidersFailedError, ModelNotPricedError
from fusewire.services import Services
from fusewire.store.db import _Link
from tests.conftest import CoreFactory
from tests.integration.ai.contract import chat
from tests.integration.ai.observing import Books, caller, price_of, two_clouds
from tests.support.upstream import Upstream, status

ADMIN = AuditContext("key_boss", None, "request-of-the-admin")
CAP = 100


@pytest.fixture(autouse=True)
def never_changed(database_url: str) -> Iterator[None]:
    """The database outlives the test: what others find is a version at which no price was ever set."""
    yield
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE price_version SET version = 0")


@pytest.fixture
def services(upstream: Upstream, second_upstream: Upstream, core: CoreFactory) -> Services:
    """One environment; `admin` is another."""
    return core(**two_clouds(upstream, second_upstream))


@pytest.fixture
def admin(core: CoreFactory, upstream: Upstream, second_upstream: Upstream) -> Services:
    return core(**two_clouds(upstream, second_upstream))


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the functions that are called from here on."""
    called: list[str] = []
    run = _Link.run

    def counting(connection: object, sql: str, argument: object, seconds: float) -> object:
        called.append(sql.split()[1].partition("(")[0])
        return run(connection, sql, argument, seconds)  # type: ignore[arg-type]

    monkeypatch.setattr(_Link, "run", staticmethod(counting))
    return called


def set_price(
    admin: Services, model: str, output: int, *, provider: str = "azure", starts: datetime | None = None
) -> UUID:
    entry = {"input_mtok": Decimal(10), "output_mtok": Decimal(output)}
    row = admin.price_history.add(
        provider, model, entry, source="admin", effective_from=starts, staged=False, audit_context=ADMIN
    )
    return UUID(row["id"])


def cost(prompt: int, completion: int, output: int) -> Decimal:
    return Decimal(prompt * 10 + completion * output).scaleb(-6)


def test_a_stale_environment_computes_its_bound_anew_with_one_more_round_trip(
    services: Services, admin: Services, upstream: Upstream, books: Books, statements: list[str]
) -> None:
    request = chat(max_tokens=CAP)
    services.router.complete(request, caller())
    set_price(admin, "first", 7000)
    statements.clear()
    _, served = services.router.complete(request, caller())
    assert statements == ["ledger_reserve", "ledger_reserve", "ledger_settle"]
    old, new = books.entries()
    assert old["bound"] == price_of("azure", chat_input_bound(request), CAP)
    assert new["bound"] == cost(chat_input_bound(request), CAP, 7000)
    assert served.booked.cost == new["cost"] == cost(*upstream.billed[1], 7000)
    statements.clear()
    services.router.complete(request, caller())
    assert statements == ["ledger_reserve", "ledger_settle"]
    books.check()


def test_a_call_keeps_its_prices_whatever_a_call_beside_it_learns(
    services: Services, admin: Services, upstream: Upstream, books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One environment may handle several calls: another's table comes between this one's version and its bounds."""
    set_price(admin, "first", 7000)
    router = services.router
    router.complete(chat(max_tokens=CAP), caller())
    bounded, older = router._bounded, router._prices.at(NO_PRICES)

    def beside(*arguments: object, **more: object) -> object:
        router._prices = older
        return bounded(*arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(router, "_bounded", beside)
    _, served = router.complete(chat(max_tokens=CAP), caller())
    last = books.entries()[-1]
    assert last["bound"] == cost(chat_input_bound(chat(max_tokens=CAP)), CAP, 7000)
    assert served.booked.cost == last["cost"] == cost(*upstream.billed[1], 7000)


def test_where_nobody_set_a_price_a_call_costs_its_two_round_trips_from_the_first_on(
    services: Services, upstream: Upstream, statements: list[str]
) -> None:
    services.router.complete(chat(), caller())
    assert statements == ["ledger_reserve", "ledger_settle"]
    assert services.prices.table is NO_PRICES


def test_a_call_under_way_is_settled_at_the_price_that_it_was_reserved_at(
    services: Services, admin: Services, upstream: Upstream, books: Books
) -> None:
    streaming = services.router.stream(chat(max_tokens=CAP, stream=True), caller())
    set_price(admin, "first", 7000)
    list(streaming.chunks)
    [entry] = books.entries()
    assert entry["bound"] == price_of("azure", chat_input_bound(chat(max_tokens=CAP)), CAP)
    assert entry["cost"] == price_of("azure", *upstream.billed[0])


def test_a_failover_reserves_at_the_prices_of_its_own_moment_and_ends_the_failed_attempt(
    services: Services,
    admin: Services,
    upstream: Upstream,
    second_upstream: Upstream,
    books: Books,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upstream.script.append(status(500))
    azure = services.registry.get("azure")
    ask = azure.complete

    def slowly(*arguments: object) -> object:
        set_price(admin, "second", 9000, provider="openai")
        return ask(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(azure, "complete", slowly)
    request = chat(max_tokens=CAP)
    _, served = services.router.complete(request, caller())
    assert (served.provider, served.attempts) == ("openai", 2)
    assert [(provider, state) for provider, state, *_ in books.ends()] == [("azure", "released"), ("openai", "settled")]
    assert books.entries()[1]["bound"] == cost(
        chat_input_bound(request, services.registry.get("openai").template_tokens), CAP, 9000
    )
    assert served.booked.cost == cost(*second_upstream.billed[0], 9000)
    books.check()


def test_a_failover_to_a_model_that_has_lost_its_price_ends_the_failed_attempt(
    core: CoreFactory,
    admin: Services,
    upstream: Upstream,
    second_upstream: Upstream,
    books: Books,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    price = set_price(admin, "second", 9000, provider="openai")
    services = core(
        **two_clouds(upstream, second_upstream, AI_PRICE_OVERRIDES='{"azure/*": {"input_mtok": 1, "output_mtok": 1}}')
    )
    upstream.script.append(status(500))
    azure = services.registry.get("azure")
    ask = azure.complete

    def slowly(*arguments: object) -> object:
        admin.price_history.remove(price, ADMIN)
        return ask(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(azure, "complete", slowly)
    with pytest.raises(AllProvidersFailedError):
        services.router.complete(chat(), caller())
    assert [(provider, state) for provider, state, *_ in books.ends()] == [("azure", "released")]
    books.check()


def test_a_model_that_only_the_table_prices_is_served_by_an_environment_that_knew_nothing(
    core: CoreFactory, admin: Services, upstream: Upstream, second_upstream: Upstream, statements: list[str]
) -> None:
    services = core(**two_clouds(upstream, second_upstream, AI_PRICE_OVERRIDES="{}", AI_FALLBACK_CHAIN="azure"))
    with pytest.raises(ModelNotPricedError):
        services.router.complete(chat(), caller())
    set_price(admin, "first", 500)
    statements.clear()
    _, served = services.router.complete(chat(), caller())
    assert served.booked.cost == cost(*upstream.billed[0], 500)
    assert statements == ["price_table_json", "ledger_reserve", "ledger_settle"]


def test_a_price_may_let_the_chains_first_provider_in(
    core: CoreFactory, admin: Services, upstream: Upstream, second_upstream: Upstream
) -> None:
    """Another environment's call would have gone to the second, which alone had a price."""
    only = '{"openai/*": {"input_mtok": 1, "output_mtok": 1}}'
    services = core(**two_clouds(upstream, second_upstream, AI_PRICE_OVERRIDES=only))
    assert services.router.complete(chat(), caller())[1].provider == "openai"
    set_price(admin, "first", 500)
    assert services.router.complete(chat(), caller())[1].provider == "azure"


def test_the_exact_name_wins_and_of_two_alike_the_table(services: Services, admin: Services) -> None:
    set_price(admin, "*", 500)
    services.prices.use(admin.price_history.table())
    assert services.prices.price("azure", "first").per_mtok()["output_mtok"] == 500
    assert services.prices.source("azure", "First") == "table"
    assert services.prices.source("openai", "second") == "override"
    set_price(admin, "first", 600)
    services.prices.use(admin.price_history.table())
    assert services.prices.price("azure", "FIRST").per_mtok()["output_mtok"] == 600
    assert services.prices.price("azure", "other").per_mtok()["output_mtok"] == 500


def test_a_scheduled_price_is_the_bounds_from_its_time_on(services: Services, admin: Services, books: Books) -> None:
    starts = datetime.now(UTC) + timedelta(seconds=2)
    set_price(admin, "first", 7000, starts=starts)
    request = chat(max_tokens=CAP)
    while datetime.now(UTC) < starts:
        services.router.complete(request, caller())
        time.sleep(0.2)
    services.router.complete(request, caller())
    bounds = {entry["reserved_at"] >= starts: entry["bound"] for entry in books.entries()}
    assert bounds == {
        False: price_of("azure", chat_input_bound(request), CAP),
        True: cost(chat_input_bound(request), CAP, 7000),
    }
