"""The failure matrix in the books: for every provider, whatever fails, what is booked follows the one table of kinds.

Bedrock's and Anthropic's own ways to break an answer are in their own tests; here are those that all vendors share, and
those of OpenAI's protocol for everyone who speaks it.
"""

from collections.abc import Iterator

import pytest

from fusewire.ai.failures import CONSEQUENCES, FailureKind, Settle
from fusewire.errors import FusewireError
from fusewire.services import Services
from tests.conftest import CoreFactory
from tests.integration.ai.contract import ROWS, Row, chat
from tests.integration.ai.observing import Books, LogLines, caller
from tests.support import upstream as vendor
from tests.support.upstream import Reply
from tests.support.wires import OpenAIWire, Wire

STATUSES = (400, 401, 403, 404, 408, 413, 422, 429, 500, 502, 503, 529)
# Of a whole answer, and of a stream, before its first content.
BROKEN: list[tuple[str, bool, Reply]] = [
    ("html", False, vendor.raw(b"<html>Bad gateway</html>")),
    ("truncated", False, vendor.raw(b'{"choices": [{"index": 0, "mess')),
    ("empty", False, vendor.raw(b"")),
    ("cut", False, vendor.cut_before_answer),
    ("html", True, vendor.raw(b"<html>Bad gateway</html>")),
    ("empty", True, vendor.raw(b"")),
    ("cut", True, vendor.cut_before_answer),
    ("cut-before-content", True, vendor.cut_stream(0)),
    ("error-before-content", True, vendor.error_in_stream(0)),
]
LATE: list[tuple[str, Reply]] = [
    ("cut", vendor.cut_stream(1)),
    ("ends-early", vendor.end_stream_early(1)),
    ("error-event", vendor.error_in_stream(1)),
]
SPEAKS_OPENAI = [row for row in ROWS if issubclass(row.wire, OpenAIWire)]


@pytest.fixture(scope="module", params=ROWS, ids=lambda row: str(row.name))
def row(request: pytest.FixtureRequest) -> Row:
    found: Row = request.param
    return found


@pytest.fixture(scope="module")
def lasting_wire(row: Row) -> Iterator[Wire]:
    with row.wire.running() as running, pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_BEARER_TOKEN_BEDROCK", "AWS_ENDPOINT_URL"):
            patch.delenv(name, raising=False)
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield running


@pytest.fixture
def wire(lasting_wire: Wire) -> Wire:
    lasting_wire.reset()
    return lasting_wire


@pytest.fixture
def services(row: Row, wire: Wire, core: CoreFactory) -> Services:
    return core(**row.settings(wire))


def ask(services: Services, *, streamed: bool) -> None:
    request = chat(stream=True, max_completion_tokens=5) if streamed else chat(max_completion_tokens=5)
    if streamed:
        list(services.router.stream(request, caller()).chunks)
    else:
        services.router.complete(request, caller())


def check_books(books: Books, log: LogLines) -> None:
    """One attempt, ended as the table says of the kind that the log names; nothing is left open."""
    (line,) = log.events("router.provider_failed")
    settle = CONSEQUENCES[FailureKind(line["kind"])].settle
    (entry,) = books.entries()
    if settle is Settle.RELEASE:
        assert (entry["status"], entry["cost"]) == ("released", None)
        assert books.spent() == 0
    else:
        assert (entry["status"], entry["cost_basis"]) == ("settled", "bound")
        assert books.spent() == entry["cost"] == entry["bound"] > 0
        assert len(log.events("ledger.settled_at_bound")) == 1
    books.check()


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("status", STATUSES)
def test_a_status_is_booked_as_its_kind_demands(
    wire: Wire, services: Services, books: Books, log: LogLines, status: int, streamed: bool
) -> None:
    wire.will_fail(status)
    with pytest.raises(FusewireError):
        ask(services, streamed=streamed)
    assert len(wire.requests) == 1
    check_books(books, log)


@pytest.mark.parametrize("row", SPEAKS_OPENAI, ids=lambda row: str(row.name), indirect=True)
@pytest.mark.parametrize(("name", "streamed", "reply"), BROKEN, ids=lambda told: str(told) if told else "")
def test_a_broken_answer_is_booked_at_its_bound(
    wire: Wire, services: Services, books: Books, log: LogLines, name: str, streamed: bool, reply: Reply
) -> None:
    wire.server.script.append(reply)  # type: ignore[arg-type] # OpenAI's wire runs OpenAI's server
    with pytest.raises(FusewireError):
        ask(services, streamed=streamed)
    assert books.spent() > 0
    check_books(books, log)


@pytest.mark.parametrize("row", SPEAKS_OPENAI, ids=lambda row: str(row.name), indirect=True)
@pytest.mark.parametrize(("name", "reply"), LATE, ids=lambda told: str(told) if isinstance(told, str) else "")
def test_a_stream_that_breaks_late_is_booked_at_its_bound(
    wire: Wire, services: Services, books: Books, log: LogLines, name: str, reply: Reply
) -> None:
    wire.server.script.append(reply)  # type: ignore[arg-type] # as above
    with pytest.raises(Exception, match=r"stream|dropped"):
        ask(services, streamed=True)
    assert books.spent() > 0
    check_books(books, log)


@pytest.mark.parametrize("row", SPEAKS_OPENAI, ids=lambda row: str(row.name), indirect=True)
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_an_answer_without_usage_is_booked_at_its_bound(
    wire: Wire, services: Services, books: Books, log: LogLines, streamed: bool
) -> None:
    wire.server.script.append(vendor.without_usage)  # type: ignore[arg-type] # as above
    ask(services, streamed=streamed)
    (entry,) = books.entries()
    assert (entry["cost_basis"], entry["outcome"], entry["cost"]) == ("bound", "success", entry["bound"])
    assert len(log.events("ledger.settled_at_bound")) == 1
    books.check()
