"""A vendor that counts the input as its stream begins has what was held beyond it given back, beside the stream."""

import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from fusewire.ai import registry
from fusewire.ai.providers.anthropic.provider import AnthropicProvider
from fusewire.ai.router import StreamBrokenError
from fusewire.budget.price import TokenCounts
from fusewire.budget.pricing import PriceBook
from fusewire.budget.reservation import Reservation
from fusewire.services import Services
from tests.conftest import CoreFactory
from tests.integration.ai.contract import chat
from tests.integration.ai.observing import Books, LogLines, caller
from tests.support.anthropic_vendor import Handler, Reply, Vendor, end, running_vendor
from tests.support.patience import PATIENCE_SECONDS

MODEL = "claude-opus-5"
PRICE = PriceBook(overrides={}, aliases={}, local_providers=[]).price("anthropic", MODEL)
CAP = 100
REQUEST = chat(stream=True, max_tokens=CAP, messages=[{"role": "user", "content": "word " * 400}])
INPUT = {"input_tokens": 300, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 0}
AFTER_INPUT = PRICE.bound_of(TokenCounts(400, CAP, 100))

MakeServices = Callable[[bool], Services]


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    with running_vendor() as running:
        yield running


@pytest.fixture
def services(vendor: Vendor, core: CoreFactory, monkeypatch: pytest.MonkeyPatch) -> MakeServices:
    def make(at_vendor: bool) -> Services:
        monkeypatch.setitem(registry._PROVIDER_FACTORIES, "anthropic", AnthropicProvider)
        monkeypatch.setattr(AnthropicProvider, "at_vendor", lambda self: at_vendor)
        return core(
            AI_FALLBACK_CHAIN="anthropic",
            AI_MONTHLY_BUDGET_USD="0.1",
            AI_OUTPUT_CAP_POLICY="strict",
            ANTHROPIC_BASE_URL=vendor.url,
            ANTHROPIC_API_KEY="key",
            ANTHROPIC_SOTA_MODEL=MODEL,
        )

    return make


def paused(goes_on: threading.Event, *, breaks: bool) -> Reply:
    """A word, and the rest when it goes on."""

    def reply(handler: Handler, body: dict[str, Any]) -> None:
        usage = {**INPUT, "output_tokens": 1, "service_tier": "standard"}
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": body["model"], "content": []}
        handler.begin_events()
        handler.event("message_start", message=message | {"usage": usage})
        handler.event("content_block_start", index=0, content_block={"type": "text", "text": ""})
        handler.event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Paris"})
        goes_on.wait(PATIENCE_SECONDS)
        if breaks:
            handler.cut()
        else:
            end(handler, "end_turn", {**usage, "output_tokens": 2})

    return reply


def wait_until_held(books: Books, bound: Decimal) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while books.entries()[0]["bound"] != bound:
        assert time.monotonic() < deadline, books.entries()[0]["bound"]
        time.sleep(0.01)
    assert books.query("SELECT reserved FROM budget_window") == [{"reserved": bound}]


@pytest.mark.parametrize("breaks", [False, True], ids=["ends", "breaks"])
def test_what_the_input_didnt_take_is_free_while_the_answer_comes(
    services: MakeServices, vendor: Vendor, books: Books, log: LogLines, breaks: bool
) -> None:
    goes_on = threading.Event()
    vendor.script.append(paused(goes_on, breaks=breaks))
    streaming = services(True).router.stream(REQUEST, caller())
    wait_until_held(books, AFTER_INPUT)
    goes_on.set()
    if breaks:
        with pytest.raises(StreamBrokenError):
            list(streaming.chunks)
        (line,) = log.events("ledger.settled_at_bound")
        assert line["cost_usd"] == AFTER_INPUT == books.spent()
    else:
        list(streaming.chunks)
        assert books.spent() == PRICE.cost(TokenCounts(400, 2, 100))
    books.check()


def test_a_lock_that_it_waits_for_holds_up_no_content(
    services: MakeServices, vendor: Vendor, books: Books, database_url: str
) -> None:
    goes_on = threading.Event()
    goes_on.set()
    vendor.script.append(paused(goes_on, breaks=False))
    first = services(True)
    first.ledger.budget()  # opens the window
    with psycopg.connect(database_url) as holder:
        give_back = first.ledger.give_back

        def meets_a_lock(reservation: Reservation, bound: Decimal, tokens: int) -> None:
            holder.execute("SELECT 1 FROM budget_window FOR UPDATE")
            give_back(reservation, bound, tokens)

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(first.ledger, "give_back", meets_a_lock)
            streaming = first.router.stream(REQUEST, caller())
            began = time.monotonic()
            assert next(streaming.chunks).choices
            assert time.monotonic() - began < 0.5  # it waits for a lock for a second
        holder.rollback()
    list(streaming.chunks)
    assert books.spent() == PRICE.cost(TokenCounts(400, 2, 100))
    books.check()


def test_another_server_of_the_protocol_isnt_believed_so_early(
    services: MakeServices, vendor: Vendor, books: Books
) -> None:
    goes_on = threading.Event()
    vendor.script.append(paused(goes_on, breaks=False))
    streaming = services(False).router.stream(REQUEST, caller())
    held = books.entries()[0]["bound"]
    assert next(streaming.chunks).choices
    assert books.entries()[0]["bound"] == held > AFTER_INPUT
    goes_on.set()
    list(streaming.chunks)
    books.check()
