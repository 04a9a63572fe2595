"""The vendor speaks OpenAI's protocol: OpenAI's own SDK reads every answer."""

import asyncio
import time
from collections.abc import Iterator

import openai
import pytest

from benchmarks import BenchmarkError, peers, upstream


@pytest.fixture(scope="module")
def vendor() -> Iterator[int]:
    with peers.vendor() as port:
        yield port


@pytest.fixture
def client(vendor: int) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"http://127.0.0.1:{vendor}/v1", api_key="sdk", max_retries=0) as made:
        yield made


def test_a_whole_answer(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=upstream.MODEL, messages=[{"role": "user", "content": "?"}])
    assert answer.choices[0].message.content == "The capital of France is Paris, of course."
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (20, 10)


@pytest.mark.parametrize("usage", [True, False])
def test_a_stream(client: openai.OpenAI, usage: bool) -> None:
    chunks = list(
        client.chat.completions.create(
            model=upstream.MODEL,
            messages=[{"role": "user", "content": "?"}],
            stream=True,
            stream_options={"include_usage": usage},
        )
    )
    words = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(words) == "The capital of France is Paris, of course."
    assert [chunk.usage.total_tokens for chunk in chunks if chunk.usage] == ([30] if usage else [])
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["stop"]


def test_it_bills_each_credential(vendor: int) -> None:
    for key, calls in (("first", 2), ("second", 1)):
        with openai.OpenAI(base_url=f"http://127.0.0.1:{vendor}/v1", api_key=key, max_retries=0) as client:
            for _ in range(calls):
                client.chat.completions.create(model="m", messages=[{"role": "user", "content": "?"}])
    billed = peers.get_json(vendor, "/billed")
    assert (billed["first"], billed["second"]) == (2, 1)


def test_a_slow_model_is_billed_at_once_and_answered_later(vendor: int) -> None:
    async def run() -> None:
        async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{vendor}/v1", api_key="slow", max_retries=0) as made:
            began = time.monotonic()
            call = asyncio.create_task(
                made.chat.completions.create(model=upstream.SLOW_MODEL, messages=[{"role": "user", "content": "?"}])
            )
            while not call.done() and peers.get_json(vendor, "/billed").get("slow") != 1:
                await asyncio.sleep(0)
            assert (await call).choices[0].message.content == "The capital of France is Paris, of course."
            assert time.monotonic() - began >= upstream.SLOW_SECONDS

    asyncio.run(run())


def test_another_route_is_not_found(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="no such route"):
        client.models.list()


def test_it_ends_with_the_block() -> None:
    with peers.vendor() as port:
        assert peers.get_json(port, "/billed") == {}
    with pytest.raises(BenchmarkError):
        peers.get_json(port, "/billed")
