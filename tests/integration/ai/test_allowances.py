"""A server that adds more to a prompt than was allowed for: one call shows it, and no environment reserves less."""

from decimal import Decimal
from typing import Any

import pytest

from fusewire.ai.bounds import chat_input_bound, embedding_input_bound
from fusewire.ai.counting import TEMPLATE_TOKENS, TOKENS_PER_REQUEST
from fusewire.budget.audit_context import AuditContext
from fusewire.errors import BudgetExceededError
from fusewire.services import Services
from tests.conftest import CoreFactory
from tests.integration.ai.contract import chat, embedding
from tests.integration.ai.observing import Books, LogLines, caller, price_of, two_clouds
from tests.support.upstream import Handler, Reply, Upstream, status

CAP = 100
REQUEST = chat(max_tokens=CAP)
WITHIN = chat_input_bound(REQUEST)
"""Azure's, in tokens."""


def counting(prompt: int, completion: int = 1) -> Reply:
    """An answer whose usage says so."""

    def reply(handler: Handler, body: dict[str, object]) -> None:
        message = {"role": "assistant", "content": "Paris."}
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        head = {"id": "x", "object": "chat.completion", "created": 1, "model": body["model"]}
        handler.reply(
            200, {**head, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
        )

    return reply


@pytest.fixture
def two(upstream: Upstream, second_upstream: Upstream, core: CoreFactory) -> tuple[Services, Services]:
    """Two execution environments, each of which has made a call already."""
    variables = two_clouds(upstream, second_upstream, AI_MONTHLY_BUDGET_USD="1000000")
    made = core(**variables), core(**variables)
    for each in made:
        each.router.complete(REQUEST, caller())
    return made


def bounds(books: Books) -> list[Decimal]:
    return [entry["bound"] for entry in books.entries()]


@pytest.mark.parametrize("slots", ["1", "4"])
def test_more_input_than_its_bound_raises_the_allowance_for_every_environment(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books, log: LogLines, slots: str
) -> None:
    variables = two_clouds(upstream, second_upstream, AI_MONTHLY_BUDGET_USD="1000000", AI_LEDGER_SLOTS=slots)
    one, other = core(**variables), core(**variables)
    other.router.complete(REQUEST, caller())
    upstream.script.append(counting(WITHIN + 104))
    _, served = one.router.complete(REQUEST, caller())
    assert served.booked.cost == price_of("azure", WITHIN + 104, 1), "it is booked as reported"
    (line,) = log.events("ledger.bound_exceeded")
    assert (line["level"], line["provider"]) == ("ERROR", "azure")
    assert f"{TOKENS_PER_REQUEST + 208} are allowed" in line["message"]
    (row,) = books.query("SELECT * FROM input_allowance")
    assert (row["provider"], row["model"], row["tokens"]) == ("azure", "first", TOKENS_PER_REQUEST + 208)
    larger = price_of("azure", WITHIN + 208, CAP)
    for services in (other, one, core(**variables)):
        upstream.script.append(counting(WITHIN + 208))
        services.router.complete(REQUEST, caller())
        assert bounds(books)[-1] == larger
    assert len(log.events("ledger.bound_exceeded")) == 1
    books.check()


def test_the_raised_allowance_costs_a_stale_environment_one_round_trip_once(
    upstream: Upstream,
    two: tuple[Services, Services],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, other = two
    upstream.script.append(counting(WITHIN + 1))
    one.router.complete(REQUEST, caller())
    statements: list[object] = []
    call = other.database.call

    def counted(statement: Any, argument: Any, **more: Any) -> object:  # noqa: ANN401 - whichever
        statements.append(statement)
        return call(statement, argument, **more)

    monkeypatch.setattr(other.database, "call", counted)
    other.router.complete(REQUEST, caller())
    assert len(statements) == 3
    other.router.complete(REQUEST, caller())
    assert len(statements) == 5


def test_a_failover_to_a_raised_model_ends_the_failed_attempt_once(
    upstream: Upstream,
    second_upstream: Upstream,
    two: tuple[Services, Services],
    books: Books,
    log: LogLines,
) -> None:
    one, other = two
    upstream.script.extend([status(500), status(500)])
    own = chat_input_bound(REQUEST, TEMPLATE_TOKENS)
    second_upstream.script.append(counting(own + 10))
    one.router.complete(REQUEST, caller())
    _, served = other.router.complete(REQUEST, caller())
    assert (served.provider, served.attempts) == ("openai", 2)
    assert [entry["bound"] for entry in books.entries() if entry["provider"] == "openai"] == [
        price_of("openai", own, CAP),
        price_of("openai", own + 20, CAP),
    ]
    assert books.ends().count(("azure", "released", None, "server_error")) == 2
    assert books.health("azure")["consecutive_failures"] == 2
    books.check()


def test_taken_back_by_an_administrator_it_is_the_settings_again_in_every_environment(
    upstream: Upstream, two: tuple[Services, Services], books: Books
) -> None:
    """Another model's, which an environment forgets with it, is learnt again."""
    one, other = two
    upstream.script.append(counting(WITHIN + 1))
    one.router.complete(REQUEST, caller())
    books.query("""
        INSERT INTO input_allowance
        SELECT provider, 'another', 5000, raised_at, entry_id FROM input_allowance RETURNING 1
    """)
    another = chat(model="azure/another", max_tokens=CAP)
    for services in two:
        services.router.complete(REQUEST, caller())
        services.router.complete(another, caller())
    one.raised_allowances.remove("azure/first", AuditContext("key_boss", None, "r"))
    before = len(books.entries())
    for services in (other, one):
        services.router.complete(REQUEST, caller())
        services.router.complete(another, caller())
    expected = [price_of("azure", WITHIN, CAP), price_of("azure", WITHIN - TOKENS_PER_REQUEST + 5000, CAP)]
    assert bounds(books)[before:] == expected * 2
    books.check()


def test_what_does_not_fit_with_the_raised_allowance_is_refused(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books
) -> None:
    limit = price_of("azure", WITHIN + 400, CAP)
    variables = two_clouds(upstream, second_upstream, AI_FALLBACK_CHAIN="azure", AI_MONTHLY_BUDGET_USD=str(limit))
    stale = core(**variables)
    upstream.script.append(counting(WITHIN + 300, 0))
    core(**variables | {"AI_MONTHLY_BUDGET_USD": str(2 * limit)}).router.complete(REQUEST, caller())
    books.query("UPDATE budget_window SET spent = 0, request_count = 0 RETURNING id")
    books.query("DELETE FROM usage_rollup RETURNING 1")
    books.query("DELETE FROM ledger RETURNING 1")
    with pytest.raises(BudgetExceededError):
        stale.router.complete(REQUEST, caller())
    assert books.entries() == []


@pytest.mark.parametrize("completion", [CAP, CAP * 9])
def test_output_beyond_its_cap_raises_no_allowance(
    upstream: Upstream, two: tuple[Services, Services], books: Books, log: LogLines, completion: int
) -> None:
    upstream.script.append(counting(WITHIN, completion))
    two[0].router.complete(REQUEST, caller())
    assert len(log.events("ledger.bound_exceeded")) == (completion > CAP)
    assert books.query("SELECT * FROM input_allowance") == []


def test_an_embedding_model_has_an_allowance_of_its_own(
    upstream: Upstream, two: tuple[Services, Services], books: Books
) -> None:
    size = embedding_input_bound(embedding())
    upstream.script.append(
        lambda handler, body: handler.reply(
            200,
            {
                "object": "list",
                "model": "m",
                "data": [{"object": "embedding", "index": 0, "embedding": [1]}],
                "usage": {"prompt_tokens": size + 7, "total_tokens": size + 7},
            },
        )
    )
    for services in two:
        services.router.embed(embedding(), caller())
    assert bounds(books)[-2:] == [price_of("azure", size, 0), price_of("azure", size + 14, 0)]
    two[1].router.complete(REQUEST, caller())
    assert bounds(books)[-1] == price_of("azure", WITHIN, CAP), "the chat model's is as it was"


def test_a_usage_beyond_all_reason_is_booked_and_allows_no_more_than_a_model_reads(
    upstream: Upstream, two: tuple[Services, Services], books: Books
) -> None:
    upstream.script.append(counting(10**12))
    two[0].router.complete(REQUEST, caller())
    assert books.query("SELECT tokens FROM input_allowance") == [{"tokens": 10_000_000}]


def test_a_server_that_writes_its_own_template_is_allowed_more_from_the_beginning(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books, log: LogLines
) -> None:
    """llama.cpp with Mistral's template adds 200 tokens to a prompt of five."""
    services = core(
        AI_MODE="local",
        OLLAMA_BASE_URL=upstream.url,
        OLLAMA_SOTA_MODEL="mistral-small",
        AI_PRICE_OVERRIDES='{"ollama/*": {"input_mtok": 10, "output_mtok": 20}}',
    )
    short = chat(messages=[{"role": "user", "content": "Hi"}], max_tokens=CAP)
    upstream.script.append(counting(5 + 200))
    services.router.complete(short, caller())
    assert log.events("ledger.bound_exceeded") == []
    assert bounds(books) == [price_of("ollama", chat_input_bound(short, TEMPLATE_TOKENS), CAP)]
