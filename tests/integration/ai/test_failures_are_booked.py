"""The failure matrix: every provider, each way to fail, and that what follows is what the one table says of its kind.

In each cell: the kind that the log names, who is asked next, how the attempt ends in the books, that the window is the
sum of the ledger with nothing left reserved, and whether a cooldown follows. What one vendor alone has is in its tests.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from fusewire.ai.bounds import chat_input_bound
from fusewire.ai.failures import CONSEQUENCES, FailureKind, Health, Settle
from fusewire.ai.router import StreamBrokenError
from fusewire.ai.schema import ChatRequest
from fusewire.errors import FusewireError, InvalidRequestError, ModelNotFoundError, RepeatedRefusalError
from fusewire.json import dumps
from fusewire.services import Services
from tests.conftest import CoreFactory
from tests.integration.ai.contract import CAP, ROWS, SOTA, Row, chat, root
from tests.integration.ai.observing import Books, LogLines, caller
from tests.integration.ai.refusals import REFUSALS
from tests.support.bedrock_vendor import running_bedrock
from tests.support.broken import Way
from tests.support.certificates import self_signed
from tests.support.ports import closed_port, full_port
from tests.support.upstream import Upstream
from tests.support.wires import Answer, Wire

K = FailureKind
SECOND = {row.name: row for row in ROWS}
SETTLING_SECONDS = 2.0
"""What the router keeps back of the caller's time."""

STATUSES = {
    400: K.UNKNOWN_REFUSAL, 401: K.CREDENTIAL_REJECTED, 403: K.MODEL_DENIED, 404: K.MODEL_NOT_FOUND,
    408: K.REQUEST_TIMEOUT, 413: K.TOO_LARGE, 422: K.UNKNOWN_REFUSAL, 429: K.RATE_LIMITED, 500: K.SERVER_ERROR,
    502: K.GATEWAY_ERROR, 503: K.OVERLOADED, 524: K.GATEWAY_ERROR, 529: K.OVERLOADED,
}  # fmt: skip
UNREADABLE = {K.MALFORMED_ANSWER, K.STREAM_BROKEN}
"""Which of the two is a matter of the protocol; the same follows from both."""
BREAKS: list[tuple[Way, bool, set[FailureKind]]] = [
    *((way, streamed, UNREADABLE) for way in (Way.HTML, Way.TRUNCATED, Way.EMPTY) for streamed in (False, True)),
    *((Way.CUT, streamed, {K.CONNECTION_LOST}) for streamed in (False, True)),
    *((Way.POLICY, streamed, {K.CONTENT_POLICY}) for streamed in (False, True)),
    (Way.CUT_BEFORE, True, {K.CONNECTION_LOST}),
    (Way.ENDS_BEFORE, True, {K.STREAM_BROKEN}),
    (Way.ERROR_BEFORE, True, {K.STREAM_ERROR}),
]
WAITS = [(Way.SILENT, False), (Way.SILENT, True), (Way.STALLS_BEFORE, True)]
LATE = {
    Way.CUT_AFTER: K.CONNECTION_LOST,
    Way.ENDS_AFTER: K.STREAM_BROKEN,
    Way.ERROR_AFTER: K.STREAM_ERROR,
    Way.STALLS_AFTER: K.READ_TIMEOUT,
}
UNREACHABLE = {
    "refused": K.CONNECT_FAILED,
    "no such name": K.CONNECT_FAILED,
    "no TLS": K.CONNECT_FAILED,
    "untrusted certificate": K.CONNECT_FAILED,
    "no connection in time": K.CONNECT_TIMEOUT,
}


def second_of(row: Row) -> Row:
    """Who is asked when the row fails."""
    return SECOND["vllm" if row.provider == "openai" else "openai"]


def settings(row: Row, address: str, second: Upstream) -> dict[str, str]:
    """The row before another provider, both priced, and the second one dearer."""
    prices = {
        f"{second_of(row).provider}/*": {"input_mtok": 80, "output_mtok": 160},
        f"{row.provider}/*": {"input_mtok": 8, "output_mtok": 16, "cached_input_mtok": 2},
    }
    return {
        **second_of(row).variables(root(second)),
        **row.variables(address),
        "AI_MODE": "hybrid",
        "AI_FALLBACK_CHAIN": f"{row.provider},{second_of(row).provider}",
        "AI_PRICE_OVERRIDES": dumps(prices),
    }


@pytest.fixture(scope="module", params=ROWS, ids=lambda row: str(row.name))
def row(request: pytest.FixtureRequest) -> Row:
    found: Row = request.param
    return found


@pytest.fixture(scope="module")
def lasting_core(lasting_database_url: str) -> Iterator[CoreFactory]:
    factory = CoreFactory(lasting_database_url)
    yield factory
    factory.close()


@pytest.fixture(scope="module")
def services(
    row: Row,
    lasting_wire: Wire,
    lasting_upstream: Upstream,
    lasting_core: CoreFactory,
    lasting_database_url: str,
    emptying: sql.Composed,
) -> Services:
    """One for all of a row's failures, with its SDK's client made: that takes longer than failing does."""
    with psycopg.connect(lasting_database_url) as connection:
        connection.execute(emptying)  # of what the row before has left, such as a vendor's refusals
    made = lasting_core(**settings(row, root(lasting_wire), lasting_upstream))
    made.router.complete(pinned(row, streamed=False), caller())
    return made


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Where no vendor can be reached; at `no TLS` is the row's own server."""
    folder: Path = tmp_path_factory.mktemp("impostor")
    with ExitStack() as stack:
        impostor = stack.enter_context(running_bedrock(self_signed(folder).context()))
        yield {
            "refused": f"http://127.0.0.1:{stack.enter_context(closed_port())}",
            "no such name": "http://nowhere.invalid",
            "untrusted certificate": impostor.url,
            "no connection in time": f"http://127.0.0.1:{stack.enter_context(full_port())}",
        }
        assert impostor.requests == []


@pytest.fixture
def second(forgetful_upstream: Upstream) -> Upstream:
    return forgetful_upstream


def asking(*, streamed: bool, **fields: object) -> ChatRequest:
    return chat(max_completion_tokens=CAP, **({"stream": True} if streamed else {}), **fields)


def pinned(row: Row, *, streamed: bool) -> ChatRequest:
    """For what takes all of the caller's time: nobody else gets a share of it."""
    return asking(streamed=streamed, model=f"{row.provider}/{SOTA}")


def ask(services: Services, request: ChatRequest, seconds: float = 30) -> FusewireError | None:
    """The error that the caller gets, if it gets one."""
    who = caller(SETTLING_SECONDS + seconds)
    try:
        if request.stream:
            list(services.router.stream(request, who).chunks)
        else:
            services.router.complete(request, who)
    except FusewireError as error:
        return error
    return None


def bound_of(request: ChatRequest) -> Decimal:
    return Decimal(chat_input_bound(request) * 8 + CAP * 16).scaleb(-6)


def input_bound_of(request: ChatRequest) -> Decimal:
    return Decimal(chat_input_bound(request) * 8).scaleb(-6)


def check_attempt(
    row: Row, entry: dict[str, Any], line: dict[str, Any], request: ChatRequest, kind: FailureKind, outcome: str
) -> None:
    """How a failed attempt ends in the ledger and is told in the log."""
    at_bound = CONSEQUENCES[kind].settle is not Settle.RELEASE
    booked = input_bound_of(request) if CONSEQUENCES[kind].settle is Settle.INPUT_BOUND else bound_of(request)
    assert (entry["provider"], entry["outcome"], entry["bound"]) == (row.provider, outcome, bound_of(request))
    assert (entry["status"], entry["cost_basis"]) == (("settled", "bound") if at_bound else ("released", None))
    assert entry["cost"] == (booked if at_bound else None)
    assert (line["kind"], line["cost_usd"]) == (kind.value, booked if at_bound else 0)


def check_second(row: Row, second: Upstream, others: list[dict[str, Any]], *, asked: bool) -> None:
    """The next provider answered, and is booked at its bill; or it wasn't asked at all."""
    if not asked:
        assert (second.requests, others) == ([], [])
        return
    (entry,) = others
    ((prompt, completion),) = second.billed
    assert (entry["provider"], entry["cost_basis"]) == (second_of(row).provider, "actual")
    assert entry["cost"] == Decimal(prompt * 80 + completion * 160).scaleb(-6)


def check_health(row: Row, books: Books, kind: FailureKind, *, says_when: bool = False, failures: int = 1) -> None:
    """Whether the provider is left alone from now on."""
    result, means = books.health(row.provider), CONSEQUENCES[kind].health
    if means is Health.UNTOUCHED:
        assert result == {}
        return
    assert result["last_failure_kind"] == kind.value
    assert (result["cooldown_until"] is not None) is (says_when or means is Health.NOW)
    if means is not Health.NOW and not says_when:
        assert result["consecutive_failures"] == (failures if means is Health.COUNT else 0)


def check_cell(
    row: Row,
    books: Books,
    log: LogLines,
    second: Upstream,
    request: ChatRequest,
    kinds: set[FailureKind],
    error: FusewireError | None,
    *,
    says_when: bool = False,
) -> None:
    """One attempt, ended as the table says of the kind that the log names, and what follows from it."""
    (line,) = log.events("router.provider_failed")
    kind = FailureKind(line["kind"])
    assert kind in kinds
    fails_over = CONSEQUENCES[kind].fail_over and request.model == "sota"
    assert (error is None) is fails_over
    first, *others = books.entries()
    check_attempt(row, first, line, request, kind, kind.value)
    check_second(row, second, others, asked=fails_over)
    check_health(row, books, kind, says_when=says_when)
    assert len(log.events("ledger.settled_at_bound")) == (CONSEQUENCES[kind].settle is not Settle.RELEASE)
    assert books.spent() == sum(entry["cost"] or 0 for entry in (first, *others))
    books.check()


whole_and_streamed = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])


@whole_and_streamed
@pytest.mark.parametrize("status", STATUSES)
def test_a_status(
    row: Row,
    services: Services,
    wire: Wire,
    second: Upstream,
    books: Books,
    log: LogLines,
    status: int,
    streamed: bool,
) -> None:
    wire.will_fail(status)
    request = asking(streamed=streamed)
    error = ask(services, request)
    assert len(wire.requests) == 1
    check_cell(row, books, log, second, request, {STATUSES[status]}, error)


@whole_and_streamed
@pytest.mark.parametrize(
    ("row", "kind"),
    [
        pytest.param(row, kind, id=f"{row.name}-{kind.value}")
        for row in ROWS
        for kind in sorted({listed[2] for listed in REFUSALS[row.wire]})
    ],
    indirect=["row"],
    scope="module",
)
def test_a_refusal_in_the_vendors_own_words(
    row: Row,
    services: Services,
    wire: Wire,
    second: Upstream,
    books: Books,
    log: LogLines,
    kind: FailureKind,
    streamed: bool,
) -> None:
    found = next(listed for listed in REFUSALS[row.wire] if listed[2] is kind)
    wire.will_refuse(*found[:2])
    request = asking(streamed=streamed)
    error = ask(services, request)
    assert len(wire.requests) == 1
    check_cell(row, books, log, second, request, {kind}, error)


@pytest.mark.parametrize("kind", [K.MODEL_DENIED, K.MODEL_NOT_FOUND])
def test_who_pins_a_forbidden_model_takes_the_provider_from_nobody(
    row: Row, services: Services, wire: Wire, books: Books, kind: FailureKind
) -> None:
    forbidden = [listed for listed in REFUSALS[row.wire] if listed[2] is kind]
    for status, body, *_ in forbidden * 2:
        wire.will_refuse(status, body)
        error = ask(services, asking(streamed=False, model=f"{row.provider}/forbidden"))
        assert isinstance(error, ModelNotFoundError)
    assert {end[1:] for end in books.ends()} <= {("released", None, kind.value)}
    assert books.health(row.provider).get("cooldown_until") is None
    assert ask(services, asking(streamed=False)) is None
    assert books.ends()[-1][:2] == (row.provider, "settled")


def test_an_unknown_refusal_that_a_caller_repeats_is_not_sent_any_more(
    row: Row, services: Services, wire: Wire, second: Upstream, books: Books
) -> None:
    request = asking(streamed=False)
    for _ in range(3):
        wire.will_fail(400)
        assert type(ask(services, request)) is InvalidRequestError
    error = ask(services, request)
    assert isinstance(error, RepeatedRefusalError)
    assert (error.status, error.retry_after is not None and 50 < error.retry_after <= 60) == (400, True)
    assert (len(wire.requests), second.requests, len(books.entries())) == (3, [], 3)
    assert books.spent() == 3 * bound_of(request)
    assert books.health(row.provider) == {}
    assert ask(services, asking(streamed=False, model=f"{row.provider}/another")) is None
    books.check()


@whole_and_streamed
def test_a_throttle_that_says_when_to_come_back(
    row: Row, services: Services, wire: Wire, second: Upstream, books: Books, log: LogLines, streamed: bool
) -> None:
    wire.will_fail(429, {"Retry-After": "40"})
    request = asking(streamed=streamed)
    error = ask(services, request)
    check_cell(row, books, log, second, request, {K.RATE_LIMITED}, error, says_when=True)
    left = (books.health(row.provider)["cooldown_until"] - datetime.now(UTC)).total_seconds()
    assert 20 < left <= 40


@pytest.mark.parametrize(
    ("way", "streamed", "kinds"), BREAKS, ids=lambda result: "" if isinstance(result, set) else None
)
def test_an_answer_that_breaks_before_its_content(
    row: Row,
    services: Services,
    wire: Wire,
    second: Upstream,
    books: Books,
    log: LogLines,
    way: Way,
    streamed: bool,
    kinds: set[FailureKind],
) -> None:
    wire.will_break(way)
    request = asking(streamed=streamed)
    error = ask(services, request)
    assert len(wire.requests) == 1
    check_cell(row, books, log, second, request, kinds, error)


@pytest.mark.parametrize(("way", "streamed"), WAITS)
def test_a_vendor_that_keeps_silent(
    row: Row, services: Services, wire: Wire, second: Upstream, books: Books, log: LogLines, way: Way, streamed: bool
) -> None:
    wire.will_break(way)
    request = pinned(row, streamed=streamed)
    error = ask(services, request, seconds=0.4)
    assert len(wire.requests) == 1
    check_cell(row, books, log, second, request, {K.READ_TIMEOUT}, error)


@pytest.mark.parametrize("way", LATE)
def test_a_stream_that_breaks_after_its_content(
    row: Row, services: Services, wire: Wire, second: Upstream, books: Books, log: LogLines, way: Way
) -> None:
    wire.will_break(way)
    # Only a stream that stalls is ended by the time, which must be enough for the first word on a busy machine.
    stalls = way is Way.STALLS_AFTER
    request = pinned(row, streamed=True) if stalls else asking(streamed=True)
    chunks = services.router.stream(request, caller(SETTLING_SECONDS + 2) if stalls else caller()).chunks
    heard = ""
    with pytest.raises(StreamBrokenError):
        for chunk in chunks:
            heard += "".join(choice.delta.content or "" for choice in chunk.choices)
    assert heard == "Pa"
    (line,) = log.events("router.provider_failed")
    entry, *others = books.entries()
    check_attempt(
        row, entry, line | {"kind": K.STREAM_BROKEN_LATE}, request, K.STREAM_BROKEN_LATE, "stream_broken_late"
    )
    assert line["kind"] == LATE[way]
    check_second(row, second, others, asked=False)
    check_health(row, books, K.STREAM_BROKEN_LATE)
    assert books.spent() == bound_of(request)
    books.check()


@pytest.mark.parametrize("where", UNREACHABLE)
def test_a_vendor_that_cannot_be_reached(
    row: Row,
    services: Services,
    wire: Wire,
    second: Upstream,
    core: CoreFactory,
    books: Books,
    log: LogLines,
    addresses: dict[str, str],
    where: str,
) -> None:
    kind = UNREACHABLE[where]
    address = addresses.get(where, root(wire).replace("http:", "https:"))
    lost = core(**settings(row, address, second))
    waits = kind is K.CONNECT_TIMEOUT
    requests = [pinned(row, streamed=streamed) for streamed in ((True,) if waits else (False, True))]
    for request in requests:
        assert ask(lost, request, seconds=1 if waits else 30) is not None
    assert wire.requests == second.requests == []
    entries, lines = books.entries(), log.events("router.provider_failed")
    for request, entry, line in zip(requests, entries, lines, strict=True):
        check_attempt(row, entry, line, request, kind, kind.value)
    check_health(row, books, kind, failures=len(requests))
    assert books.spent() == 0
    books.check()


@pytest.mark.usefixtures("nothing_learned")
@whole_and_streamed
@pytest.mark.parametrize("answer", [Answer(metered=False), Answer(prompt=10**6), Answer(finish="content_filter")])
def test_an_answer_whose_usage_is_missing_beyond_the_bound_or_of_a_refusal(
    row: Row,
    services: Services,
    wire: Wire,
    second: Upstream,
    books: Books,
    log: LogLines,
    answer: Answer,
    streamed: bool,
) -> None:
    wire.will_answer(answer)
    request = asking(streamed=streamed)
    assert ask(services, request) is None
    reported = Decimal(answer.prompt * 8 + answer.completion * 16).scaleb(-6)
    (entry,) = books.entries()
    assert books.ends() == [(row.provider, "settled", "actual" if answer.metered else "bound", "success")]
    assert entry["cost"] == books.spent() == (reported if answer.metered else bound_of(request))
    assert len(log.events("ledger.bound_exceeded")) == (answer.metered and reported > bound_of(request))
    assert len(log.events("ledger.settled_at_bound")) == (not answer.metered)
    assert (second.requests, books.health(row.provider)["last_failure_at"]) == ([], None)
    books.check()
