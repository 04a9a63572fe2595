"""The small real model: it answers, embeds and calls tools over OpenAI's protocol, and ends with its parent."""

import math
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest
from openai import OpenAI

from local import StartError, ollama
from tests.support.gateway import PROJECT, alive, eventually
from tests.support.patience import PATIENCE_SECONDS


@pytest.fixture(scope="module")
def model() -> Iterator[OpenAI]:
    with ollama.model_process() as process:
        address = ollama.address_of(process)
        assert address.startswith("http://127.0.0.1:")
        with OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0, timeout=PATIENCE_SECONDS) as client:
            yield client
        assert process.poll() is None
    assert process.returncode == 0


def test_the_capital_of_france(model: OpenAI) -> None:
    answer = model.chat.completions.create(
        model=ollama.MODEL,
        messages=[{"role": "user", "content": "What is the capital of France?"}],
        max_tokens=24,
    )
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.usage is not None
    assert 0 < answer.usage.completion_tokens <= 24
    assert answer.usage.prompt_tokens > 10


def test_a_stream_with_its_usage(model: OpenAI) -> None:
    chunks = list(
        model.chat.completions.create(
            model=ollama.MODEL,
            messages=[{"role": "user", "content": "What is the capital of France?"}],
            max_tokens=24,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert "Paris" in text
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


def test_a_tool_that_must_be_called(model: OpenAI) -> None:
    answer = model.chat.completions.create(
        model=ollama.MODEL,
        messages=[{"role": "user", "content": "What is the weather in Paris?"}],
        max_tokens=80,
        tools=[
            {
                "type": "function",
                "function": {
                    "name": "get_weather",
                    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
                },
            }
        ],
        tool_choice="required",
    )
    (call,) = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert "Paris" in call.function.arguments
    assert answer.choices[0].finish_reason == "tool_calls"


def test_embeddings_mean_something(model: OpenAI) -> None:
    texts = ["The cat sleeps on the sofa.", "A kitten naps on the couch.", "Quarterly tax returns are due in April."]
    data = model.embeddings.create(model=ollama.MODEL, input=texts, encoding_format="float").data
    vectors = [entry.embedding for entry in data]
    assert {len(vector) for vector in vectors} == {576}
    cat, kitten, tax = vectors
    assert cat != kitten
    assert _cosine(cat, kitten) > _cosine(cat, tax)


def _cosine(one: list[float], other: list[float]) -> float:
    return _dot(one, other) / math.sqrt(_dot(one, one) * _dot(other, other))


def _dot(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


def test_a_prompt_that_is_too_long_is_refused_and_it_serves_on(model: OpenAI) -> None:
    address = str(model.base_url)
    body = {"model": ollama.MODEL, "messages": [{"role": "user", "content": "x " * 20_000}], "max_tokens": 2}
    assert (
        httpx.post(f"{address}chat/completions", json=body, timeout=PATIENCE_SECONDS, trust_env=False).status_code
        == 400
    )
    assert httpx.get(f"{address}models", trust_env=False).json()["data"][0]["id"] == ollama.MODEL


def test_it_ends_with_its_standard_input_and_prints_nothing_else() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "local.model"],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert (process.returncode, out, err) == (0, "", "")


def test_it_can_be_stopped_before_it_is_loaded() -> None:
    with ollama.model_process() as process:
        eventually(lambda: alive(process.pid))
    assert process.returncode is not None
    assert not alive(process.pid)


def test_weights_that_are_missing_are_one_line() -> None:
    program = "import sys, local.model as m; m.find_spec = lambda name: None; sys.exit(m.main())"
    process = subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "-c", program],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process, pytest.raises(StartError) as caught:
        ollama.address_of(process)
    assert "make setup" in str(caught.value)
    assert "OLLAMA_BASE_URL" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert process.wait(PATIENCE_SECONDS) == 1


def test_a_model_that_dies_without_a_word() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", "import os; os.abort()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process, pytest.raises(StartError, match=r"doesn't start \(status -6\)"):
        ollama.address_of(process)
