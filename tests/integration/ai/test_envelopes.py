"""A good answer isn't thrown away for its envelope: every provider, each way to wrap one badly (`envelopes.py`).

In each cell: what the caller reads, whole and as a stream; what is booked, told parts at their price and the rest at
its bound, and that the basis says which; that nobody else is asked, and that the provider's health is left alone.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import pytest

from fusewire.ai.bounds import chat_input_bound
from fusewire.ai.schema import ChatRequest, Usage
from fusewire.services import Services
from tests.conftest import CoreFactory
from tests.integration.ai.contract import CAP, ROWS, Row, chat
from tests.integration.ai.envelopes import ANTHROPIC, BEDROCK, OPENAI, Envelope, will_wrap
from tests.integration.ai.observing import Books, LogLines, caller
from tests.support.wires import AnthropicWire, BedrockWire, OpenAIWire, VertexWire, Wire

INPUT_RATE, OUTPUT_RATE = 8, 16
"""USD per million tokens, as the rows are priced."""
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def row(request: pytest.FixtureRequest) -> Row:
    found: Row = request.param
    return found


@pytest.fixture(scope="module")
def lasting_core(lasting_database_url: str) -> Iterator[CoreFactory]:
    factory = CoreFactory(lasting_database_url)
    yield factory
    factory.close()


@pytest.fixture(scope="module")
def services(row: Row, lasting_wire: Wire, lasting_core: CoreFactory) -> Services:
    return lasting_core(**row.settings(lasting_wire))


def said(services: Services, request: ChatRequest) -> tuple[dict[str, Any], Usage | None]:
    """What the caller reads: content, thought, finish reason and calls, and the usage."""
    if not request.stream:
        response, _ = services.router.complete(request, caller())
        (choice,) = response.choices
        message = choice.message
        called = [(call.id, call.function.name, call.function.arguments) for call in message.tool_calls or ()]
        return (
            {
                "content": message.content,
                "thought": message.reasoning_content or "",
                "finish": choice.finish_reason,
                "calls": called,
                "frame": (response.id, response.created, response.model),
            },
            response.usage,
        )
    chunks = list(services.router.stream(request, caller()).chunks)
    choices = [choice for chunk in chunks for choice in chunk.choices]
    deltas = [choice.delta for choice in choices]
    calls: dict[int, list[str]] = {}
    for part in (part for delta in deltas for part in delta.tool_calls or ()):
        made = calls.setdefault(part.index, ["", "", ""])
        for place, text in enumerate((part.id, part.function and part.function.name)):
            made[place] += text or ""
        made[2] += (part.function and part.function.arguments) or ""
    (finish,) = [choice.finish_reason for choice in choices if choice.finish_reason]
    (frame,) = {(chunk.id, chunk.created, chunk.model) for chunk in chunks}
    return (
        {
            "content": "".join(delta.content or "" for delta in deltas) or None,
            "thought": "".join(delta.reasoning_content or "" for delta in deltas),
            "finish": finish,
            "calls": [tuple(call) for call in calls.values()],
            "frame": frame,
        },
        chunks[-1].usage,
    )


def of(*wires: type[Wire]) -> pytest.MarkDecorator:
    """For the rows whose vendors speak these."""
    rows = [row for row in ROWS if row.wire in wires]
    return pytest.mark.parametrize("row", rows, ids=lambda row: str(row.name), indirect=True)


def each(envelopes: Sequence[Envelope]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("envelope", envelopes, ids=lambda envelope: str(envelope.name))


def test_every_row_has_its_envelopes() -> None:
    assert {row.wire for row in ROWS} == {OpenAIWire, VertexWire, AnthropicWire, BedrockWire}


@pytest.mark.usefixtures("nothing_learned")
@of(OpenAIWire, VertexWire)
@each(OPENAI)
def test_openais_protocol(
    row: Row, services: Services, wire: Wire, books: Books, log: LogLines, envelope: Envelope
) -> None:
    check_read_and_booked(row, services, wire, books, log, envelope)


@pytest.mark.usefixtures("nothing_learned")
@of(AnthropicWire)
@each(ANTHROPIC)
def test_anthropics_messages(
    row: Row, services: Services, wire: Wire, books: Books, log: LogLines, envelope: Envelope
) -> None:
    check_read_and_booked(row, services, wire, books, log, envelope)


@pytest.mark.usefixtures("nothing_learned")
@of(BedrockWire)
@each(BEDROCK)
def test_bedrocks_converse(
    row: Row, services: Services, wire: Wire, books: Books, log: LogLines, envelope: Envelope
) -> None:
    check_read_and_booked(row, services, wire, books, log, envelope)


def check_read_and_booked(
    row: Row, services: Services, wire: Wire, books: Books, log: LogLines, envelope: Envelope
) -> None:
    ways = [False, True] if envelope.streamed is None else [envelope.streamed]
    for streamed in ways:
        will_wrap(wire, envelope)
        request = chat(max_completion_tokens=CAP, tools=[TOOL], **({"stream": True} if streamed else {}))
        answer, usage = said(services, request)
        assert (answer["content"] or None, answer["finish"]) == (envelope.content, envelope.finish)
        assert answer["thought"] == envelope.thought
        assert [call[1:] for call in answer["calls"]] == ([("weather", envelope.call)] if envelope.call else [])
        assert all(0 < len(call[0]) <= 40 for call in answer["calls"]), "OpenAI refuses longer ids"
        assert all(answer["frame"]), "an id, a time and a model"
        check_booked(row, books.entries()[-1], request, envelope, usage)
    assert len(wire.requests) == len(books.entries()) == len(ways)
    health = books.health(row.provider)
    assert (health["last_failure_at"], health["consecutive_failures"]) == (None, 0)
    assert len(log.events("ledger.settled_at_bound")) == (None in (envelope.input, envelope.output)) * len(ways)
    books.check()


def check_booked(
    row: Row, entry: dict[str, Any], request: ChatRequest, envelope: Envelope, usage: Usage | None
) -> None:
    """Told parts at their price, the rest at its bound, and the caller is told the same."""
    is_counted = None not in (envelope.input, envelope.output)
    input_tokens = chat_input_bound(request) if envelope.input is None else envelope.input
    output_tokens = CAP if envelope.output is None else envelope.output
    cost = Decimal(input_tokens * INPUT_RATE + output_tokens * OUTPUT_RATE).scaleb(-6)
    assert (entry["provider"], entry["status"], entry["outcome"]) == (row.provider, "settled", "success")
    assert (entry["cost"], entry["cost_basis"]) == (cost, "actual" if is_counted else "bound")
    assert (entry["input_tokens"], entry["output_tokens"]) == (envelope.input or 0, envelope.output or 0)
    if envelope.input is None and envelope.output is None:
        assert usage is None
        return
    assert usage is not None
    assert usage.cost == cost
    shown = usage.model_dump(exclude_unset=True)
    assert (shown["prompt_tokens"], shown["completion_tokens"]) == (envelope.input or 0, envelope.output or 0)
