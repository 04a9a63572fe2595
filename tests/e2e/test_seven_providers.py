"""One application, unchanged, over each of the seven providers: a conversation that uses tools, by either SDK."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic.types import MessageParam, ToolParam, ToolResultBlockParam
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from openai.types.completion_usage import CompletionUsage

from tests.integration.ai.contract import ROWS, SOTA, Row
from tests.support.gateway import Books, Gateway, running_gateway
from tests.support.patience import PATIENCE_SECONDS
from tests.support.wires import Answer, Wire

SEVEN = [row for row in ROWS if row.name == row.provider]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}

WEATHER_OF_ANTHROPIC: ToolParam = {
    "name": "weather",
    "description": "The weather of a city",
    "input_schema": WEATHER["function"]["parameters"],
}


@dataclass
class Running:
    """One gateway over all seven, and each one's vendor."""

    gateway: Gateway
    client: OpenAI
    books: Books
    wires: dict[str, Wire]

    def booked(self, provider: str) -> tuple[int, Decimal]:
        """How many attempts of a provider's, and what they cost."""
        rows = self.books.rows("SELECT provider, count(*), sum(cost) FROM ledger GROUP BY provider")
        return {name: (count, cost) for name, count, cost in rows}.get(provider, (0, Decimal(0)))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("seven")
    variables = {
        "AI_MODE": "hybrid",
        "AI_FALLBACK_CHAIN": ",".join(row.provider for row in SEVEN),
        "AI_PRICE_OVERRIDES": json.dumps({f"{row.provider}/*": {"input_mtok": 10, "output_mtok": 20} for row in SEVEN}),
        "LOCAL_CONCURRENCY": "1",
    }
    with ExitStack() as stack:
        wires = {row.provider: stack.enter_context(row.wire.running()) for row in SEVEN}
        for row in SEVEN:
            variables |= row.variables(wires[row.provider].url) | wires[row.provider].environment
        gateway = stack.enter_context(running_gateway(home, **variables))
        yield Running(gateway, gateway.openai(), Books(socket_url(home)), wires)


def socket_url(home: Path) -> str:
    lines = (home / "fusewire" / "postgres" / "postmaster.pid").read_text().splitlines()
    return f"host={lines[4]} port={lines[3]} user=postgres dbname=fusewire"


class Application:
    """A chat with a tool, as its developer wrote it for OpenAI."""

    def __init__(self, client: OpenAI, model: str, *, streamed: bool) -> None:
        self._client, self._model, self._streamed = client, model, streamed
        self.messages: list[ChatCompletionMessageParam] = [{"role": "system", "content": "Be brief."}]
        self.called: list[dict[str, Any]] = []
        self.usages: list[CompletionUsage] = []

    def say(self, text: str) -> str:
        """The answer, after as many calls of the tool as the model wants."""
        self.messages.append({"role": "user", "content": text})
        for _ in range(4):
            message, finish = self._whole() if not self._streamed else self._pieces()
            self.messages.append(message)  # type: ignore[arg-type] # the answer itself, as OpenAI's documentation has it
            if finish != "tool_calls":
                assert finish == "stop"
                return str(message["content"])
            for call in message["tool_calls"]:
                assert call["function"]["name"] == "weather"
                self.called.append(json.loads(call["function"]["arguments"]))
                self.messages.append({"role": "tool", "tool_call_id": call["id"], "content": "sunny, 21 degrees"})
        raise AssertionError(f"it calls and calls: {self.called}")

    def _whole(self) -> tuple[dict[str, Any], str]:
        answer = self._client.chat.completions.create(model=self._model, messages=self.messages, tools=[WEATHER])
        assert answer.usage is not None
        self.usages.append(answer.usage)
        return answer.choices[0].message.to_dict(), answer.choices[0].finish_reason

    def _pieces(self) -> tuple[dict[str, Any], str]:
        """Put together by the SDK's own helper."""
        with self._client.chat.completions.stream(
            model=self._model, messages=self.messages, tools=[WEATHER], stream_options={"include_usage": True}
        ) as stream:
            result = [event.chunk for event in stream if event.type == "chunk"]
            answer = stream.get_final_completion()
        assert [chunk.usage is not None for chunk in result] == [False] * (len(result) - 1) + [True]
        assert answer.usage is not None
        self.usages.append(answer.usage)
        message: dict[str, Any] = {"role": "assistant", "content": answer.choices[0].message.content}
        if calls := answer.choices[0].message.tool_calls:
            # The helper adds what it parsed of the arguments, which is no field of a message.
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.function.name, "arguments": call.function.arguments},
                }
                for call in calls
            ]
        return message, answer.choices[0].finish_reason


def calling(city: str) -> Answer:
    return Answer(('{"city"', f': "{city}"}}'), call="weather", finish="tool_calls", prompt=100, completion=10)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("row", SEVEN, ids=lambda row: str(row.provider))
def test_a_conversation_with_tools(running: Running, row: Row, streamed: bool) -> None:
    wire, model = running.wires[row.provider], f"{row.provider}/{SOTA}"
    wire.reset()
    count, cost = running.booked(row.provider)
    application = Application(running.client, model, streamed=streamed)
    wire.will_answer(calling("Paris"))
    wire.will_answer(calling("London"))
    assert application.say("How is the weather in Paris, and then in London?") == "Paris."
    wire.will_answer(calling("Rome"))
    assert application.say("And in Rome?") == "Paris."
    assert application.say("Thank you.") == "Paris."
    assert application.called == [{"city": "Paris"}, {"city": "London"}, {"city": "Rome"}]

    assert len(wire.requests) == len(application.usages) == 6
    assert [wire.streams(number) for number in range(6)] == [streamed] * 6
    last = json.dumps(wire.requests[-1])
    for said in ("Be brief.", "And in Rome?", "Thank you.", "London"):
        assert said in last
    assert last.count("sunny, 21 degrees") == 3
    costs = [Decimal(str((usage.model_extra or {})["cost"])) for usage in application.usages]
    assert all(costs)
    assert costs[0] == Decimal("0.0012"), "100 x $10 + 10 x $20, a million tokens"
    assert running.booked(row.provider) == (count + 6, cost + sum(costs))
    running.books.balance()


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("row", SEVEN, ids=lambda row: str(row.provider))
def test_a_conversation_with_tools_by_anthropics_sdk(running: Running, row: Row, streamed: bool) -> None:
    wire, model = running.wires[row.provider], f"{row.provider}/{SOTA}"
    wire.reset()
    count, cost = running.booked(row.provider)
    messages: list[MessageParam] = []
    costs = []
    base_url = running.gateway.base.removesuffix("/v1")
    with anthropic.Anthropic(base_url=base_url, api_key="none", max_retries=0, timeout=PATIENCE_SECONDS) as client:

        def ask() -> anthropic.types.Message:
            asked: dict[str, Any] = {
                "model": model,
                "max_tokens": 50,
                "system": "Be brief.",
                "messages": messages,
                "tools": [WEATHER_OF_ANTHROPIC],
            }
            if not streamed:
                answer: anthropic.types.Message = client.messages.create(**asked)
                usage = answer.usage.model_extra or {}
            else:
                with client.messages.stream(**asked) as stream:
                    # The cost is in the last event's usage, of which the SDK accumulates its own fields only.
                    (usage,) = [event.usage.model_extra or {} for event in stream if event.type == "message_delta"]
                    answer = stream.get_final_message()
            messages.append({"role": "assistant", "content": answer.content})
            costs.append(Decimal(str(usage["cost"])))
            return answer

        for city in ("Paris", "Rome"):
            wire.will_answer(calling(city))
            messages.append({"role": "user", "content": f"How is the weather in {city}?"})
            answer = ask()
            (use,) = [block for block in answer.content if block.type == "tool_use"]
            assert (answer.stop_reason, use.name, use.input) == ("tool_use", "weather", {"city": city})
            result: ToolResultBlockParam = {
                "type": "tool_result",
                "tool_use_id": use.id,
                "content": "sunny, 21 degrees",
            }
            messages.append({"role": "user", "content": [result]})
            answer = ask()
            assert answer.stop_reason == "end_turn"
            assert "".join(block.text for block in answer.content if block.type == "text") == "Paris."

    assert [wire.streams(number) for number in range(4)] == [streamed] * 4
    last = json.dumps(wire.requests[-1])
    assert "Be brief." in last
    assert last.count("sunny, 21 degrees") == 2
    assert all(costs)
    assert running.booked(row.provider) == (count + 4, cost + sum(costs))
    running.books.balance()


@pytest.mark.parametrize("row", [row for row in SEVEN if row.embedding], ids=lambda row: str(row.provider))
def test_embeddings(running: Running, row: Row) -> None:
    running.wires[row.provider].reset()
    running.wires[row.provider].will_embed()
    # The SDK asks for base64 unless told otherwise, and decodes it.
    response = running.client.embeddings.create(model=f"{row.provider}/{row.embedding}", input=["a", "bc"])
    assert [item.embedding for item in response.data] == [[0.5, -0.25]] * 2
    assert response.usage.prompt_tokens == 3
    running.books.balance()
