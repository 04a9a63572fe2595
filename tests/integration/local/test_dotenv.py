"""What keys, modes and misspellings in `.env` and the environment lead to: in the banner, the answers and the books."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import CoreFactory
from tests.integration.ai.contract import chat
from tests.integration.ai.observing import caller
from tests.integration.local.processes import arguments, descendants
from tests.support.gateway import PROJECT, Books, Gateway, running_gateway
from tests.support.patience import PATIENCE_SECONDS
from tests.support.upstream import Upstream

PRICES = '{"openai/*": {"input_mtok": 1000, "cached_input_mtok": 1000, "output_mtok": 1000}}'


@contextmanager
def started(home: Path, dotenv: str, **environ: str) -> Iterator[Gateway]:
    """A gateway in a folder with this `.env`."""
    (home / ".env").write_text(dotenv, encoding="utf-8")
    with running_gateway(home, LOCAL_CONCURRENCY="1", **environ) as gateway:
        yield gateway


def ask(gateway: Gateway, model: str) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    return httpx.post(f"{gateway.base}/chat/completions", json=body, timeout=PATIENCE_SECONDS, trust_env=False)


def embedded_models(gateway: Gateway) -> list[int]:
    return [pid for pid in descendants(gateway.process.pid) if "local.model" in arguments(pid)]


def typed(command: str) -> Any:  # noqa: ANN401 - JSON is anything
    done = subprocess.run(["bash", "-e", "-c", command], capture_output=True, text=True, check=False)  # noqa: S603, S607 - as printed
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_vendor_in_the_file_answers_and_the_banner_is_true_word_by_word(
    tmp_path: Path, database_url: str, core: CoreFactory, upstream: Upstream
) -> None:
    vendor = {"OPENAI_API_KEY": "sk-secret-4711", "OPENAI_BASE_URL": upstream.url, "OPENAI_SOTA_MODEL": "gpt-4o"}
    core(**vendor, AI_PRICE_OVERRIDES=PRICES).router.complete(chat(max_completion_tokens=5), caller())
    books = Books(database_url)
    spent = books.one("SELECT sum(cost) FROM ledger")
    assert 0 < spent < 5
    key = subprocess.run(["make", "-s", "key"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout  # noqa: S607
    lines = [f"{name}={value}" for name, value in vendor.items()]
    dotenv = "\n".join((*lines, "AUTH_MODE=keys", "AI_MONTLY_BUDGET_USD=5", f"AI_PRICE_OVERRIDES={PRICES}", key))
    with started(tmp_path, dotenv, DATABASE_URL=database_url, OPENAI_ORG_ID="theirs", LOG_LEVL="DEBUG") as gateway:
        result = gateway.progress
        assert "Mode      cloud (AI_MODE is unset, and openai is configured)" in result
        assert "Chain     openai     sota gpt-4o\n" in result
        assert "sota      answered by openai/gpt-4o\n" in result
        assert f"Budget    {(500 - spent).normalize():f} USD left of 500 USD this month (CLOSED)" in result
        assert "WARNING: AI_MONTLY_BUDGET_USD in .env is no setting: did you mean AI_MONTHLY_BUDGET_USD?" in result
        assert "WARNING: LOG_LEVL in the environment is no setting: did you mean LOG_LEVEL?" in result
        assert "OPENAI_ORG_ID" not in result
        assert "sk-secret-4711" not in result and key.partition("=")[2].strip() not in result
        assert embedded_models(gateway) == []

        [export] = [line.strip() for line in result.splitlines() if line.startswith("  export ")]
        question, budget, providers = [line.strip() for line in result.splitlines() if line.startswith("  curl ")]
        assert '"content":"Paris."' in typed(f"{export}\n{question}").replace('": "', '":"')
        assert '"monthly_limit_usd":500' in typed(f"{export}\n{budget}").replace(" ", "")
        assert '"chain":["openai"]' in typed(f"{export}\n{providers}").replace(" ", "")
        assert ask(gateway, "sota").status_code == 401  # nobody without a key
    assert [tuple(row) for row in books.rows("SELECT provider, model, status FROM ledger")] == [
        ("openai", "gpt-4o", "settled")
    ] * 2
    books.balance()


def test_a_key_alone_brings_the_usual_models_and_no_model_of_this_machine(tmp_path: Path, database_url: str) -> None:
    # Nobody is reached: a proxy that isn't there stands before the vendors.
    nowhere = {"HTTPS_PROXY": "http://127.0.0.1:1", "ANTHROPIC_API_KEY": "sk-ant"}
    with started(tmp_path, "OPENAI_API_KEY=sk-x", DATABASE_URL=database_url, **nowhere) as gateway:
        assert "Chain     openai     sota gpt-5.4, cost_effective gpt-5.4-mini\n" in gateway.progress
        assert "anthropic  sota claude-opus-5-5, cost_effective claude-haiku-5-5\n" in gateway.progress
        assert embedded_models(gateway) == []
        failed = ask(gateway, "sota")
        assert (failed.status_code, failed.json()["error"]["code"]) == (503, "all_providers_failed")
        asked = [(each["provider"], each["model"]) for each in failed.json()["error"]["providers"]]
        assert asked == [("openai", "gpt-5.4"), ("anthropic", "claude-opus-5-5")]
        unknown = ask(gateway, "gpt-99").json()["error"]
        assert unknown["code"] == "model_not_found"
        assert "Available: sota, cost_effective, openai/gpt-5.4, openai/gpt-5.4-mini, " in unknown["message"]
        small = ask(gateway, "ollama/smollm2").json()["error"]
        assert "The provider ollama isn't configured; missing: OLLAMA_BASE_URL" in small["message"]
    rows = Books(database_url).rows("SELECT provider, status, cost FROM ledger ORDER BY attempt")
    assert [tuple(row) for row in rows] == [("openai", "released", None), ("anthropic", "released", None)]


def test_a_key_in_the_shell_is_not_spent_in_local_mode(tmp_path: Path, database_url: str, upstream: Upstream) -> None:
    shell = {"OPENAI_API_KEY": "sk-x", "OPENAI_BASE_URL": upstream.url, "OPENAI_SOTA_MODEL": "gpt-4o"}
    with started(tmp_path, "AI_MODE=cloud", DATABASE_URL=database_url, AI_MODE="local", **shell) as gateway:
        assert "Mode      local (as AI_MODE says)" in gateway.progress
        assert "sota      answered by ollama/smollm2, a model of 135M parameters" in gateway.progress
        assert len(embedded_models(gateway)) == 1
        assert ask(gateway, "sota").headers["x-fusewire-provider"] == "ollama"
        for model in ("openai/gpt-4o", "gpt-4o"):
            refused = ask(gateway, model)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_eligible_provider")
            body = refused.json()["error"]["message"]
            assert "AI_MODE=local keeps openai out, which is configured." in body
            assert body.endswith("Available: sota, cost_effective, ollama/smollm2.")
    assert upstream.requests == []
    assert Books(database_url).rows("SELECT provider FROM ledger") == [("ollama",)]


def test_the_embedded_model_leaves_the_field_to_a_local_provider(
    tmp_path: Path, database_url: str, upstream: Upstream
) -> None:
    dotenv = f"VLLM_BASE_URL={upstream.url}\nVLLM_MODEL=ours\n"
    with started(tmp_path, dotenv, DATABASE_URL=database_url) as gateway:
        assert "Mode      local (AI_MODE is unset, and no cloud provider is configured)" in gateway.progress
        assert "sota      answered by vllm/ours\n" in gateway.progress
        assert embedded_models(gateway) == []
        assert ask(gateway, "sota").headers["x-fusewire-provider"] == "vllm"
