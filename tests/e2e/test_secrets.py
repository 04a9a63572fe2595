"""Nothing that was said, and no credential, reaches the log, even at DEBUG and in failures."""

from pathlib import Path

import httpx

from tests.support import upstream as vendor
from tests.support.gateway import running_gateway
from tests.support.upstream import Upstream

PROMPT, ANSWER, KEY, TOOL = "PROMPT-b1946ac9", "ANSWER-5d41402a", "sk-KEY-7d793037", "TOOL-acbd18db"


def test_no_line_quotes_a_prompt_an_answer_a_key_or_a_connection_string(
    tmp_path: Path, upstream: Upstream, second_upstream: Upstream, database_url: str
) -> None:
    upstream.words = second_upstream.words = [ANSWER]
    variables = {
        "LOG_LEVEL": "DEBUG",
        "AI_MODE": "hybrid",
        "AI_FALLBACK_CHAIN": "openai,vllm",
        "OPENAI_API_KEY": KEY,
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_SOTA_MODEL": "gpt-4o",
        "VLLM_BASE_URL": second_upstream.url,
        "VLLM_API_KEY": KEY,
        "VLLM_MODEL": "v",
        "VLLM_EMBEDDING_MODEL": "v",
        "OLLAMA_BASE_URL": "http://127.0.0.1:9",
        "DATABASE_URL": f"{database_url} application_name=CONNECTION-37b51d19",
        "LOCAL_CONCURRENCY": "2",
    }
    body = {
        "model": "sota",
        "messages": [{"role": "user", "content": PROMPT}],
        "tools": [{"type": "function", "function": {"name": TOOL, "parameters": {"type": "object"}}}],
    }
    leaky = vendor.status(400, error={"message": f"invalid: {PROMPT} with {KEY}"})
    with running_gateway(tmp_path / "run", **variables) as gateway:

        def post(path: str, told: object, **more: str) -> int:
            return httpx.post(f"{gateway.base}{path}", json=told, headers=more, timeout=30).status_code

        assert post("/chat/completions", body, authorization=f"Bearer {KEY}") == 200
        assert post("/chat/completions", body | {"stream": True}) == 200
        upstream.script.extend([vendor.status(500, error={"message": PROMPT}), leaky, vendor.cut_stream(1)])
        assert post("/chat/completions", body) == 200
        assert post("/chat/completions", body) == 400
        assert post("/chat/completions", body | {"stream": True}) == 200
        upstream.script.append(vendor.raw(f'{{"choices": "{ANSWER}"}}'.encode()))
        assert post("/chat/completions", body) == 200
        assert post("/embeddings", {"model": "vllm/v", "input": PROMPT}) == 200
        assert post("/chat/completions", body | {"temperature": PROMPT}) == 400
        assert post("/chat/completions", [PROMPT]) == 400
        assert httpx.get(f"{gateway.base}/admin/providers?probe=true", timeout=30).status_code == 200
        assert httpx.get(f"{gateway.base}/{PROMPT}").status_code == 404
        assert gateway.reset()
    everything = gateway.log + gateway.progress
    assert len(gateway.lines()) > 10
    for secret in (PROMPT, ANSWER, KEY, TOOL, "CONNECTION-37b51d19"):
        assert secret not in everything
