"""Streams once content has come: nobody else may answer, whatever happens is settled, and hanging up is no way out."""

import threading
import time
from decimal import Decimal
from typing import Any

import pytest

from fusewire.ai.bounds import chat_input_bound
from fusewire.ai.router import ServedStream, StreamBrokenError
from fusewire.services import Services
from tests.conftest import CoreFactory
from tests.integration.ai.contract import chat
from tests.integration.ai.observing import Books, LogLines, caller, price_of, two_clouds
from tests.support.expiry import expire_reservations
from tests.support.patience import PATIENCE_SECONDS
from tests.support.upstream import (
    Handler,
    Reply,
    Upstream,
    chunk,
    cut_stream,
    end_stream_early,
    stall_stream,
    without_usage,
)

CAP = 100
REQUEST = chat(stream=True, max_tokens=CAP)
BOUND = price_of("azure", chat_input_bound(REQUEST), CAP)


@pytest.fixture
def services(upstream: Upstream, second_upstream: Upstream, core: CoreFactory) -> Services:
    return core(**two_clouds(upstream, second_upstream))


def read(streaming: ServedStream) -> str:
    return "".join(choice.delta.content or "" for c in streaming.chunks for choice in c.choices)


def events(*row: dict[str, Any] | str, done: bool = True) -> Reply:
    def reply(handler: Handler, body: dict[str, Any]) -> None:
        handler.begin_events()
        for event in row:
            handler.event(event)
        if done:
            handler.event("[DONE]")
        handler.end_events()

    return reply


def usage(prompt: int, completion: int | None = None) -> dict[str, Any]:
    counts = {"prompt_tokens": prompt} | ({} if completion is None else {"completion_tokens": completion})
    return {"usage": counts}


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (cut_stream(3), "connection_lost"),
        (end_stream_early(2), "stream_broken"),
        (events(chunk("m", {"content": "Pa"}), {"choices": "none"}), "stream_broken"),
        (events(chunk("m", {"content": "Pa"}), "{", done=False), "malformed_answer"),
    ],
    ids=["cut before the end", "ends early", "no chunk", "no JSON"],
)
def test_a_stream_that_breaks_after_content_is_settled_and_nobody_else_answers(
    upstream: Upstream,
    second_upstream: Upstream,
    services: Services,
    books: Books,
    log: LogLines,
    reply: Reply,
    kind: str,
) -> None:
    upstream.script.append(reply)
    streaming = services.router.stream(REQUEST, caller())
    said = []
    with pytest.raises(StreamBrokenError, match="azure"):
        for each in streaming.chunks:
            said += [choice.delta.content for choice in each.choices]
    assert "Pa" in said
    assert not second_upstream.requests
    assert books.ends() == [("azure", "settled", "bound", "stream_broken_late")]
    assert books.entries()[0]["cost"] == BOUND
    assert books.health("azure")["last_failure_kind"] == "stream_broken_late"
    (line,) = log.events("router.provider_failed")
    assert (line["kind"], line["cost_usd"]) == (kind, BOUND)
    assert not log.events("router.success")
    books.check()


def test_a_stream_that_flows_slowly_is_not_cut_and_one_that_falls_silent_is(
    upstream: Upstream, second_upstream: Upstream, core: CoreFactory, books: Books
) -> None:
    """A word a second of a limit of two seconds' silence, in small; then no word more."""
    services = core(**two_clouds(upstream, second_upstream, AI_SILENCE_TIMEOUT_SECONDS="1.5"))
    upstream.words, upstream.delay = ["x"] * 8, 4
    assert read(services.router.stream(REQUEST, caller())) == "x" * 8
    upstream.script.append(stall_stream(1, 30))
    begun = time.monotonic()
    with pytest.raises(StreamBrokenError):
        read(services.router.stream(REQUEST, caller()))
    assert time.monotonic() - begun < 15
    assert [end[2:] for end in books.ends()] == [("actual", "success"), ("bound", "stream_broken_late")]
    books.check()


def test_an_answer_or_stream_without_usage_is_settled_at_its_bound(
    upstream: Upstream, services: Services, books: Books, log: LogLines
) -> None:
    upstream.script.extend([without_usage, without_usage])
    assert read(services.router.stream(REQUEST, caller())) == "Paris."
    response, served = services.router.complete(REQUEST, caller())
    assert response.usage is None
    assert served.booked.cost == BOUND
    assert books.ends() == [("azure", "settled", "bound", "success")] * 2
    assert [line["kind"] for line in log.events("ledger.settled_at_bound")] == ["no_usage", "no_usage"]
    assert books.spent() == 2 * BOUND
    books.check()


def test_a_part_of_the_usage_is_booked_and_the_rest_at_its_bound(
    upstream: Upstream, services: Services, books: Books, log: LogLines
) -> None:
    counted = [{"prompt_tokens": 5}, {"completion_tokens": 2}, {"prompt_tokens": 5, "completion_tokens": -2}]
    costs = [price_of("azure", 5, CAP), price_of("azure", chat_input_bound(REQUEST), 2), price_of("azure", 5, CAP)]
    for part in counted:
        upstream.script.append(events(chunk("m", {"content": "x"}, "stop"), {"choices": [], "usage": part}))
        last = list(services.router.stream(REQUEST, caller()).chunks)[-1]
        assert last.usage is not None
        assert last.usage.cost == costs[len(books.entries()) - 1]
    assert [entry["cost"] for entry in books.entries()] == costs
    assert [(entry["input_tokens"], entry["output_tokens"]) for entry in books.entries()] == [(5, 0), (0, 2), (5, 0)]
    assert books.ends() == [("azure", "settled", "bound", "success")] * 3
    assert [line["kind"] for line in log.events("ledger.settled_at_bound")] == ["partial_usage"] * 3
    assert [line["cost_usd"] for line in log.events("router.success")] == costs
    assert books.spent() == sum(costs) < 3 * BOUND
    books.check()


def test_a_usage_beyond_the_bound_is_booked_as_reported_and_told(
    upstream: Upstream, services: Services, books: Books, log: LogLines
) -> None:
    upstream.script.append(events(chunk("m", {"content": "x"}, "stop"), chunk("m", {}) | usage(5, CAP * 9)))
    last = list(services.router.stream(REQUEST, caller()).chunks)[-1]
    assert last.usage is not None
    assert last.usage.cost == price_of("azure", 5, CAP * 9) > BOUND
    assert books.spent() == price_of("azure", 5, CAP * 9)
    (line,) = log.events("ledger.bound_exceeded")
    assert line["level"] == "ERROR"
    books.check()


def test_of_repeated_usages_the_last_counts_and_comes_once(
    upstream: Upstream, services: Services, books: Books
) -> None:
    upstream.script.append(
        events(
            chunk("m", {"role": "assistant"}) | usage(5, 0),
            chunk("m", {"content": "a"}) | usage(5, 1),
            chunk("m", {"content": "b"}, "stop") | usage(5, 2),
        )
    )
    chunks = list(services.router.stream(REQUEST, caller()).chunks)
    assert [c.usage.completion_tokens for c in chunks if c.usage] == [2]
    assert [c.choices[0].finish_reason for c in chunks if c.choices] == [None, None, "stop"]
    assert books.spent() == price_of("azure", 5, 2)


def test_azures_filter_says_what_it_found_without_breaking_the_stream(
    upstream: Upstream, services: Services, books: Books
) -> None:
    empty = {"id": "", "object": "", "created": 0, "model": ""}
    found = {"hate": {"filtered": False}}
    annotation = {"index": 0, "finish_reason": None, "content_filter_results": found, "content_filter_offsets": {}}
    upstream.script.append(
        events(
            empty | {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
            chunk("m", {"role": "assistant", "content": ""}),
            chunk("m", {"content": "Paris."}),
            empty | {"choices": [annotation]},
            chunk("m", {}, "stop"),
            chunk("m", {}) | {"choices": []} | usage(5, 2),
        )
    )
    chunks = list(services.router.stream(REQUEST, caller()).chunks)
    assert [c.choices[0].delta.content for c in chunks if c.choices] == ["", "Paris.", None]
    assert all(c.id for c in chunks)
    assert books.spent() == price_of("azure", 5, 2)


def test_an_answer_may_be_empty(upstream: Upstream, services: Services, books: Books) -> None:
    upstream.script.append(events(chunk("m", {}, "content_filter"), chunk("m", {}) | {"choices": []} | usage(5, 0)))
    assert read(services.router.stream(REQUEST, caller())) == ""
    assert books.ends() == [("azure", "settled", "actual", "success")]


def test_several_choices_each_come_to_their_end(upstream: Upstream, services: Services, books: Books) -> None:
    def choice(index: int, finish: str | None) -> dict[str, Any]:
        made = chunk("m", {"content": "x"}, finish)
        made["choices"][0]["index"] = index
        return made

    whole = [choice(0, "stop"), choice(1, "stop"), chunk("m", {}) | {"choices": []} | usage(5, 2)]
    upstream.script.extend([events(*whole), events(choice(0, "stop"), choice(1, None))])
    request = chat(stream=True, n=2)
    read(services.router.stream(request, caller()))
    with pytest.raises(StreamBrokenError):
        read(services.router.stream(request, caller()))
    assert [end[3] for end in books.ends()] == ["success", "stream_broken_late"]


def test_hanging_up_in_mid_stream_is_settled_at_the_bound(
    upstream: Upstream, services: Services, books: Books, log: LogLines
) -> None:
    streaming = services.router.stream(REQUEST, caller())
    next(streaming.chunks)
    streaming.chunks.close()  # type: ignore[attr-defined] # a generator, seen as what it promises
    assert books.ends() == [("azure", "settled", "bound", "abandoned")]
    assert [line["kind"] for line in log.events("ledger.settled_at_bound")] == ["abandoned"]
    books.check()


def test_letting_go_of_a_stream_is_hanging_up(upstream: Upstream, services: Services, books: Books) -> None:
    streaming = services.router.stream(REQUEST, caller())
    next(streaming.chunks)
    del streaming
    assert books.ends() == [("azure", "settled", "bound", "abandoned")]
    books.check()


def test_a_stream_that_nobody_ever_reads_is_settled_when_it_expires(
    services: Services, database_url: str, books: Books
) -> None:
    streaming = services.router.stream(REQUEST, caller())
    assert books.entries()[0]["status"] == "reserved"
    del streaming
    expire_reservations(database_url)
    budget, *_ = services.ledger.budget()
    assert (budget.window.spent, budget.window.reserved) == (BOUND, Decimal(0))
    assert books.ends() == [("azure", "settled", "bound", "expired")]
    books.check()


def test_a_stream_that_outlives_its_reservation_is_corrected_to_what_it_cost(
    upstream: Upstream, services: Services, database_url: str, books: Books
) -> None:
    streaming = services.router.stream(REQUEST, caller())
    expire_reservations(database_url)
    services.ledger.budget()
    assert books.spent() == BOUND
    read(streaming)
    assert books.spent() == price_of("azure", *upstream.billed[0])
    assert books.ends() == [("azure", "settled", "actual", "success")]
    books.check()


def test_what_has_come_is_passed_on_before_the_rest_is_there(
    upstream: Upstream, services: Services, books: Books
) -> None:
    go_on = threading.Event()

    def waits(handler: Handler, body: dict[str, Any]) -> None:
        handler.begin_events()
        handler.event(chunk("m", {"content": "Pa"}))
        assert go_on.wait(PATIENCE_SECONDS)
        handler.event(chunk("m", {"content": "ris"}, "stop"))
        handler.event(chunk("m", {}) | {"choices": []} | usage(5, 2))
        handler.end_events()

    upstream.script.append(waits)
    streaming = services.router.stream(REQUEST, caller())
    assert next(streaming.chunks).choices[0].delta.content == "Pa"
    go_on.set()
    assert read(streaming) == "ris"
    books.check()
