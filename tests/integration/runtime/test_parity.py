"""The real functions, once under AWS's own client and once under our loop: a caller can't tell which."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import uvloop

from local.template import Template, read_template
from tests.integration.local.serving import STREAM, serving_template
from tests.support.upstream import Upstream

_TEMPLATE: Final = Path(__file__).resolve().parents[3] / "infra" / "template.yaml"
_ORIGIN: Final = "https://app.example"
_QUESTION: Final = [{"role": "user", "content": "What is the capital of France? 日本"}]
# What differs between any two calls.
_OF_ONE_CALL: Final = {"id", "created", "request_id", "window", "opened", "closed", "last_success_at"}
_OF_ONE_ANSWER: Final = {"date", "x-request-id", "transfer-encoding", "content-length"}

_REQUESTS: Final[list[tuple[str, str, object]]] = [
    ("GET", "/health", None),
    ("GET", "/openapi.json", None),
    ("GET", "/models", None),
    ("GET", "/admin/providers", None),
    ("POST", "/chat/completions", {"model": "sota", "messages": _QUESTION}),
    ("POST", "/chat/completions", {"model": "sota", "messages": _QUESTION, "stream": True}),
    (
        "POST",
        "/chat/completions",
        {"model": "sota", "messages": _QUESTION, "stream": True, "stream_options": {"include_usage": True}},
    ),
    ("POST", "/chat/completions", {"model": "ollama/other", "messages": _QUESTION}),
    ("POST", "/chat/completions", {"model": "sota"}),
    ("POST", "/chat/completions", {"model": "sota", "messages": _QUESTION, "surprise": 1}),
    ("POST", "/chat/completions", b"{"),
    ("POST", "/chat/completions", b"\xff\xfe"),
    ("POST", "/chat/completions", b""),
    ("POST", "/embeddings", {"model": "ollama/small", "input": ["a", "b"]}),
    ("POST", "/embeddings", {"model": "ollama/small", "input": 5}),
    ("GET", "/admin/budget", None),
    ("POST", "/admin/budget/reset", None),
    ("POST", "/admin/budget/reset", {"reason": "tests", "more": 1}),
    ("GET", "/nowhere", None),
]


def under(template: Template, wrapper: Path | None) -> Template:
    return replace(template, functions=tuple(replace(f, wrapper=wrapper) for f in template.functions))


def lasting(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """The value less what belongs to one call only."""
    if isinstance(value, dict):
        return {key: lasting(part) for key, part in value.items() if key not in _OF_ONE_CALL}
    return [lasting(part) for part in value] if isinstance(value, list) else value


def comparable(answer: httpx.Response) -> tuple[int, dict[str, str], object]:
    headers = {name: value for name, value in answer.headers.items() if name not in _OF_ONE_ANSWER}
    if headers["content-type"].startswith("text/event-stream"):
        events = re.findall(r"data: (.*)\n\n", answer.text)
        return answer.status_code, headers, [lasting(json.loads(e)) if e != "[DONE]" else e for e in events]
    return answer.status_code, headers, lasting(answer.json())


def test_the_same_functions_answer_the_same_and_log_no_vendors_address(
    database_url: str, upstream: Upstream, capfd: pytest.CaptureFixture[str]
) -> None:
    variables = {
        "AI_MODE": "local",
        "AUTH_MODE": "open",
        "DATABASE_URL": database_url,
        "CORS_ORIGINS": _ORIGIN,
        "OLLAMA_BASE_URL": upstream.url.removesuffix("/v1"),
        "OLLAMA_SOTA_MODEL": "large",
        "OLLAMA_COST_EFFECTIVE_MODEL": "small",
        "OLLAMA_EMBEDDING_MODEL": "small",
    }
    template = read_template(_TEMPLATE, variables)

    async def scenario() -> None:
        async with (
            serving_template(under(template, None), variables, origins=(_ORIGIN,)) as awss,
            serving_template(under(template, STREAM), variables, origins=(_ORIGIN,)) as ours,
        ):
            seen = set()
            for method, path, body in _REQUESTS:
                content = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
                headers = {"origin": _ORIGIN, "content-type": "application/json"}
                answers = [
                    await client.request(method, f"/api/v1{path}", content=content, headers=headers)
                    for client in (awss, ours)
                ]
                first, second = map(comparable, answers)
                assert first == second, (method, path, body)
                assert first[1]["access-control-allow-origin"] == _ORIGIN, (method, path)
                ids = {answer.headers["x-request-id"] for answer in answers}
                assert len(ids) == 2, (method, path)
                seen.add(first[0])
            assert seen == {200, 400, 404}

    uvloop.run(scenario())
    printed = capfd.readouterr()
    assert "router.success" in printed.out
    assert str(upstream.port) not in printed.out + printed.err
