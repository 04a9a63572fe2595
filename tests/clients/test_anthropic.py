"""Anthropic's SDK in Python and its runner of tools, in the tests' own process."""

from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import anthropic
import pytest

from tests.support.clients import ANSWER, DEAR, RIGHT, TASK, refused, script_the_fix
from tests.support.formats import Setting


def base(setting: Setting) -> str:
    return setting.gateway.base.removesuffix("/v1")


def client(setting: Setting) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=base(setting), api_key="none")


def tools(folder: Path) -> list[Any]:
    @anthropic.beta_tool
    def read_file(path: str) -> str:
        """Read a file."""
        return (folder / path).read_text()

    @anthropic.beta_tool
    def write_file(path: str, text: str) -> str:
        """Write a file."""
        (folder / path).write_text(text)
        return "written"

    return [read_file, write_file]


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("thread", [None, False], ids=["with a thread", "without"])
def test_the_tool_runner_edits_a_file(
    setting: Setting, folder: Path, streamed: bool, thread: Literal[False] | None
) -> None:
    first = len(setting.upstream.billed)
    script_the_fix(setting)
    given: dict[str, Any] = {"stream": streamed} if thread is None else {"stream": streamed, "thread": thread}
    with client(setting) as sdk:
        run: Any = sdk.beta.messages.tool_runner
        said = [{"role": "user", "content": TASK}]
        runner = run(model="openai/m", max_tokens=1000, messages=said, tools=tools(folder), **given)
        answers: list[Any] = [each.get_final_message() if streamed else each for each in runner]
    assert answers[-1].content[0].text == ANSWER
    assert (folder / "calc.py").read_text() == RIGHT
    assert len(setting.upstream.requests) == 3
    used = [(answer.usage.input_tokens, answer.usage.output_tokens) for answer in answers]
    assert used == setting.upstream.billed[first:]
    if not streamed:  # of a stream the SDK keeps what it knows
        cost = sum((Decimal(str(answer.usage.cost)) for answer in answers), Decimal(0))
        assert cost.quantize(Decimal("1e-6")) == setting.cost_of(first, first + 1, first + 2)


def test_tokens_are_counted_by_the_bound_where_the_vendor_has_no_count(setting: Setting) -> None:
    with client(setting) as sdk:
        counted = sdk.messages.with_raw_response.count_tokens(
            model="openai/m", messages=[{"role": "user", "content": TASK}]
        )
    assert counted.headers["x-fusewire-token-count"] == "bound"
    assert counted.parse().input_tokens > len(TASK)
    assert not setting.upstream.requests


def test_a_used_up_budget_ends_it_at_once(setting: Setting, folder: Path) -> None:
    before = refused(setting)
    with client(setting) as sdk, pytest.raises(anthropic.PaymentRequiredError) as caught:
        sdk.beta.messages.tool_runner(
            model=DEAR,
            max_tokens=1000,
            messages=[{"role": "user", "content": TASK}],
            tools=tools(folder),
            thread=False,
        ).until_done()
    assert caught.value.type == "billing_error"
    assert "The month's budget can't take this call" in str(caught.value)
    assert refused(setting) == before + 1
    assert not setting.upstream.requests


@pytest.mark.parametrize("status", [404, 405])
def test_what_the_gateway_itself_refuses_has_anthropics_body(setting: Setting, status: int) -> None:
    with client(setting) as sdk, pytest.raises(anthropic.APIStatusError) as caught:
        if status == 404:
            sdk.post("/v1/messages/batches", cast_to=object, body={})
        else:
            sdk.get("/v1/messages", cast_to=object)
    assert caught.value.status_code == status
    body: Any = caught.value.body
    assert (body["type"], body["error"]["type"]) == ("error", "invalid_request_error")
