"""Nothing that was said, and no credential, reaches the log, even at DEBUG and in failures."""

from pathlib import Path

import httpx

from tests.support import upstream as vendor
from tests.support.gateway import running_gateway
from tests.support.patience import PATIENCE_SECONDS
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

        def post(path: str, row: object, **more: str) -> int:
            return httpx.post(f"{gateway.base}{path}", json=row, headers=more, timeout=PATIENCE_SECONDS).status_code

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
        assert httpx.get(f"{gateway.base}/admin/providers?probe=true", timeout=PATIENCE_SECONDS).status_code == 200
        assert httpx.get(f"{gateway.base}/{PROMPT}").status_code == 404
        assert gateway.reset()
    everything = gateway.log + gateway.progress
    assert len(gateway.lines()) > 10
    for secret in (PROMPT, ANSWER, KEY, TOOL, "CONNECTION-37b51d19"):
        assert secret not in everything


# --- who gets which credential ----------------------------------------------------------------------------------

OF_VENDORS, OF_AWS, OF_ADMINS, OF_NOBODY = "sk-vendors-9b1c", "aws-0f2e", "bootstrap-key-5c1d0a7e9b3f", "stranger-77aa"
OF_RESPONSES = "responses-key-3e8f60b1c2d4"
ROUTES = {
    "complete": ("POST", "/chat/completions"),
    "embed": ("POST", "/embeddings"),
    "models": ("GET", "/models"),
    "admin_budget": ("GET", "/admin/budget"),
    "admin_providers": ("GET", "/admin/providers"),
    "admin_usage": ("GET", "/admin/usage"),
    "admin_keys": ("GET", "/admin/keys"),
    "health": ("GET", "/health"),
}
"""A route of each function; the authorizer is asked before all but the last."""


def environment_of(pid: int) -> str:
    return Path(f"/proc/{pid}/environ").read_bytes().decode()


def test_each_process_has_the_credentials_that_it_needs_and_no_other(tmp_path: Path, upstream: Upstream) -> None:
    variables = {
        "AUTH_MODE": "keys",
        "ADMIN_API_KEY": OF_ADMINS,
        "AI_MODE": "cloud",
        "OPENAI_API_KEY": OF_VENDORS,
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_SOTA_MODEL": "gpt-4o",
        "AI_PRICE_OVERRIDES": '{"openai/gpt-4o": {"multiply": 1.1}}',
        "AWS_SECRET_ACCESS_KEY": OF_AWS,
        "AI_RESPONSES_RETENTION_HOURS": "1",
        "AI_RESPONSES_KEY": OF_RESPONSES,
        "GITHUB_TOKEN": OF_NOBODY,
        "LOCAL_CONCURRENCY": "1",
    }
    home = tmp_path / "run"
    with running_gateway(home, **variables) as gateway:
        for method, path in ROUTES.values():
            answer = httpx.request(
                method,
                f"{gateway.base}{path}",
                json={} if method == "POST" else None,
                headers={"authorization": f"Bearer {OF_ADMINS}"},
                timeout=PATIENCE_SECONDS,
            )
            assert answer.status_code in (200, 400), answer.text
        found = {name: "".join(map(environment_of, gateway.workers(name))) for name in (*ROUTES, "authorizer")}
        assert all(found.values()), "each function has a process"
        having = {
            secret: {name for name, environment in found.items() if secret in environment}
            for secret in (OF_VENDORS, OF_AWS, OF_ADMINS, OF_RESPONSES, OF_NOBODY)
        }
        assert having == {
            OF_VENDORS: {"complete", "embed", "admin_providers", "models"},
            OF_AWS: {"complete", "embed", "admin_providers"},
            OF_ADMINS: {"authorizer", "health"},
            OF_RESPONSES: {"complete"},
            OF_NOBODY: set(),
        }
        postmaster = int((home / "fusewire/postgres/postmaster.pid").read_text().split()[0])
        names = {line.partition("=")[0] for line in environment_of(postmaster).split("\0") if line}
        own = {name for name in names if name.startswith("PG")}
        assert names - own <= {"PATH", "TZ", "LC_ALL", "PWD", "OLDPWD", "SHLVL", "_"}
