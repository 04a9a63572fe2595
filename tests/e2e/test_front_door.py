"""An application developer's first hour: OpenAI's SDK with nothing changed but the base URL, on a real model."""

import re
import subprocess
import time
from collections.abc import Iterator

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletionToolParam

from tests.support.gateway import Gateway, running_gateway
from tests.support.patience import FOR_A_REAL_MODEL, PATIENCE_SECONDS

QUESTION = "What is the capital of France?"
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    home = tmp_path_factory.mktemp("front")
    with running_gateway(home, CORS_ORIGINS="http://localhost:3000", **FOR_A_REAL_MODEL) as running:
        yield running


def test_the_printed_curl_line_is_answered_with_paris(gateway: Gateway) -> None:
    line = next(line for line in gateway.progress.splitlines() if "chat/completions" in line)
    output = subprocess.run(["bash", "-c", line.strip()], capture_output=True, text=True, check=True)  # noqa: S603, S607
    assert "Paris" in output.stdout
    assert output.stdout.endswith("}\n"), "a shell's prompt begins on a line of its own"


def test_every_json_body_ends_with_a_newline(gateway: Gateway) -> None:
    chat = {"model": "sota", "messages": [{"role": "user", "content": "hi"}], "max_completion_tokens": 2}
    answers = {
        "chat/completions": httpx.post(f"{gateway.base}/chat/completions", json=chat, timeout=PATIENCE_SECONDS),
        "messages": httpx.post(
            f"{gateway.base}/messages",
            json={"model": "sota", "max_tokens": 2, "messages": chat["messages"]},
            timeout=PATIENCE_SECONDS,
        ),
        "embeddings": httpx.post(
            f"{gateway.base}/embeddings", json={"model": "sota", "input": "a"}, timeout=PATIENCE_SECONDS
        ),
        **{
            path: httpx.get(f"{gateway.base}/{path}", timeout=PATIENCE_SECONDS)
            for path in ("models", "health", "openapi.json", "admin/budget", "admin/providers", "admin/keys")
        },
        "an error of the function": httpx.post(f"{gateway.base}/messages", json={}, timeout=PATIENCE_SECONDS),
        "an error of the gateway": httpx.get(f"{gateway.base}/nothing"),
        "an error of the authorizer": httpx.get(
            f"{gateway.base}/models", headers={"x-api-key": "fw_x"}, timeout=PATIENCE_SECONDS
        ),
    }
    for what, answer in answers.items():
        assert answer.headers["content-type"] == "application/json", what
        assert answer.content.endswith(b"}\n") and not answer.content.endswith(b"\n\n"), what
        # On a streaming route there is none: the answer comes in chunks.
        assert int(answer.headers.get("content-length", len(answer.content))) == len(answer.content), what
        assert answer.json()


def test_a_browser_gets_a_page_of_links_that_lead_somewhere(gateway: Gateway) -> None:
    root = gateway.base.removesuffix("/api/v1")
    page = httpx.get(f"{root}/", headers={"accept": "text/html,*/*;q=0.8"})
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    links = re.findall(r'href="([^"]*)"', page.text)
    assert [httpx.get(root + link, timeout=PATIENCE_SECONDS).status_code for link in links] == [200] * len(links)
    head = httpx.head(f"{root}/", headers={"accept": "text/html"})
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(page.content)))
    assert httpx.get(f"{root}/favicon.ico").status_code == 204
    response = httpx.get(f"{root}/")
    assert (response.status_code, response.json()["error"]["code"]) == (404, "route_not_found")
    assert "/api/v1/openapi.json" in response.json()["error"]["message"]


def test_chat(gateway: Gateway) -> None:
    answer = gateway.openai().chat.completions.with_raw_response.create(
        model="sota", messages=[{"role": "user", "content": QUESTION}]
    )
    assert "Paris" in (answer.parse().choices[0].message.content or "")
    assert answer.headers["x-fusewire-provider"] == "ollama"
    assert answer.headers["x-fusewire-attempts"] == "1"
    assert answer.headers["x-fusewire-cost-usd"] == "0"
    assert answer.headers["x-fusewire-budget-state"] == "CLOSED"
    [line] = [line for line in gateway.lines() if line.get("request_id") == answer.headers["x-request-id"]]
    assert line["event"] == "router.success"


def test_a_stream_ends_with_the_usage_and_its_cost(gateway: Gateway) -> None:
    stream = gateway.openai().chat.completions.create(
        model="cost_effective",
        messages=[{"role": "user", "content": QUESTION}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert len(chunks) > 4
    assert "Paris" in "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    usage = chunks[-1].usage
    assert usage is not None and usage.completion_tokens > 0
    assert usage.model_extra == {"cost": 0}
    assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)


def test_a_tool_is_called_and_its_result_taken(gateway: Gateway) -> None:
    client = gateway.openai()
    first = client.chat.completions.create(
        model="sota",
        messages=[{"role": "user", "content": "How is the weather in Paris?"}],
        tools=[WEATHER],
        tool_choice="required",
    )
    calls = first.choices[0].message.tool_calls or []
    assert calls[0].type == "function" and calls[0].function.name == "weather"
    second = client.chat.completions.create(
        model="sota",
        messages=[
            {"role": "user", "content": "How is the weather in Paris?"},
            {"role": "assistant", "tool_calls": [calls[0].model_dump()]},  # type: ignore[list-item] # the SDK's own answer, sent back
            {"role": "tool", "tool_call_id": calls[0].id, "content": "sunny, 21 degrees"},
        ],
        tools=[WEATHER],
    )
    assert second.choices[0].finish_reason in ("stop", "length", "tool_calls")


def test_embeddings_come_from_a_real_model(gateway: Gateway) -> None:
    # The SDK asks for base64 unless told otherwise, and decodes it.
    response = gateway.openai().embeddings.create(model="sota", input=["Paris", "London", "Paris"])
    paris, london, again = (item.embedding for item in response.data)
    assert len(paris) > 100
    assert paris == again
    assert paris != london
    assert response.usage.prompt_tokens > 0


def test_models_are_listed_with_prices(gateway: Gateway) -> None:
    listed = {model.id: model for model in gateway.openai().models.list()}
    assert {"sota", "cost_effective", "ollama/smollm2"} <= listed.keys()
    assert (listed["ollama/smollm2"].model_extra or {})["price"] == {"input_mtok": 0, "output_mtok": 0}


@pytest.mark.parametrize(
    ("fields", "error", "status", "code", "param"),
    [
        ({"model": "nobody"}, openai.NotFoundError, 404, "model_not_found", "model"),
        ({"temperature": 9}, openai.BadRequestError, 400, "invalid_request_error", "temperature"),
        ({"extra_body": {"tempertaure": 1}}, openai.BadRequestError, 400, "invalid_request_error", "tempertaure"),
        ({"n": 2}, openai.BadRequestError, 400, "unsupported_parameter", "n"),
        ({"model": "openai/gpt-4o"}, openai.NotFoundError, 404, "model_not_found", "model"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_the_sdk_raises_its_own_exceptions_and_does_not_try_again(
    gateway: Gateway, fields: dict[str, object], error: type[openai.APIStatusError], status: int, code: str, param: str
) -> None:
    before = len(gateway.lines())
    with pytest.raises(error) as raised:
        gateway.openai(max_retries=2).chat.completions.create(
            **{"model": "sota", "messages": [{"role": "user", "content": "hi"}]} | fields  # type: ignore[call-overload]
        )
    assert (raised.value.status_code, raised.value.code, raised.value.param) == (status, code, param)
    assert raised.value.response.headers["x-should-retry"] == "false"
    assert len(gateway.lines()) == before


def test_a_wrong_route_a_wrong_method_and_a_large_body_are_told_apart(gateway: Gateway) -> None:
    root = gateway.base
    assert httpx.get(f"{root}/nothing").json()["error"]["code"] == "route_not_found"
    refused = httpx.get(f"{root}/chat/completions")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    large = httpx.post(f"{root}/chat/completions", content=b"x" * 7_000_000, timeout=PATIENCE_SECONDS)
    assert (large.status_code, large.json()["error"]["code"]) == (413, "request_too_large")
    larger = httpx.post(f"{root}/chat/completions", content=b"x" * 11_000_000, timeout=PATIENCE_SECONDS)
    assert (larger.status_code, larger.json()["error"]["code"]) == (413, "request_too_large")


def test_a_browser_of_an_allowed_origin_may_call(gateway: Gateway) -> None:
    asked = {"origin": "http://localhost:3000", "access-control-request-method": "POST"}
    preflight = httpx.options(f"{gateway.base}/chat/completions", headers=asked)
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert "POST" in preflight.headers["access-control-allow-methods"]
    answer = httpx.get(f"{gateway.base}/models", headers=asked)
    assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"
    other = httpx.options(f"{gateway.base}/chat/completions", headers=asked | {"origin": "http://elsewhere"})
    assert "access-control-allow-origin" not in other.headers


def test_health_and_openapi_need_nothing(gateway: Gateway) -> None:
    assert httpx.get(f"{gateway.base}/health").json()["status"] == "ok"
    assert "/api/v1/chat/completions" in str(httpx.get(f"{gateway.base}/openapi.json").json()["paths"].keys())


def test_providers_are_probed_live(gateway: Gateway) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        answer = httpx.get(f"{gateway.base}/admin/providers", params={"probe": "true"}, timeout=PATIENCE_SECONDS)
        if answer.is_success or time.monotonic() > until:
            break  # the function has 29 s, in which a model on a busy machine may not answer
    body = answer.json()
    assert body["mode"] == "local"
    [ollama] = [provider for provider in body["providers"] if provider["id"] == "ollama"]
    assert ollama["status"] == "ok"
    assert ollama["last_success_at"]


def test_what_it_prints_is_one_line_a_step(gateway: Gateway) -> None:
    steps = [line.split()[0] for line in gateway.progress.splitlines() if line.startswith("  ")]
    assert steps == [
        *("Postgres", "Ledger", "Model", "Mode", "Chain", "sota", "Budget", "Auth", "Ready"),
        *("curl", "curl", "curl"),
    ]
