"""What `make run` says once it serves, for each way in which it can be set up."""

import json
import shlex
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from fusewire.budget.breaker import Budget, Window
from local.banner import Gateway, banner
from local.environment import KeySource
from local.mode import assembled, mode_of

SECRET = "bootstrap-key-0123456789abcdef"  # noqa: S105 - looked for where it must not be
KEYS = {"AUTH_MODE": "keys", "ADMIN_API_KEY": SECRET}
OLLAMA = {"OLLAMA_BASE_URL": "http://o.invalid", "OLLAMA_SOTA_MODEL": "m", "OLLAMA_COST_EFFECTIVE_MODEL": "m"}


def shown(
    variables: dict[str, str], *, key: KeySource = "nowhere", stand_in: bool = False, warnings: tuple[str, ...] = ()
) -> str:
    given = {"AUTH_MODE": "open"} | variables
    mode = mode_of(given)
    window = Window(
        id=1, opened_at=datetime.now(UTC), opened_by="first_use", resets_at=datetime.now(UTC), closed_at=None,
        spent=Decimal("1.25"), reserved=Decimal(0), request_count=3,
    )  # fmt: skip
    gateway = Gateway(8000, assembled(given, mode), mode, stand_in, Path("/a folder/.env"), key, warnings)
    result = banner(gateway, Budget(window, "CLOSED", Decimal(500)))
    assert SECRET not in result
    assert result.endswith("Ctrl-C stops everything. The log follows.")
    return result


def test_a_key_alone_shows_the_usual_models_and_who_answers() -> None:
    result = shown({"OPENAI_API_KEY": "sk-x", "ANTHROPIC_API_KEY": "sk-y"})
    assert "  Mode      cloud (AI_MODE is unset, and openai, anthropic are configured)\n" in result
    assert "  Chain     openai     sota gpt-5.4, cost_effective gpt-5.4-mini\n" in result
    assert "            anthropic  sota claude-opus-5-5, cost_effective claude-haiku-5-5\n" in result
    assert "  sota      answered by openai/gpt-5.4, and if it fails by anthropic/claude-opus-5-5\n" in result
    assert "  Budget    498.75 USD left of 500 USD this month (CLOSED)\n" in result
    assert "  Auth      open" in result
    assert "  Ready     http://localhost:8000/api/v1\n" in result


def test_the_embedded_model_is_called_what_it_is() -> None:
    result = shown(OLLAMA, stand_in=True)
    assert "  Mode      local (AI_MODE is unset, and no cloud provider is configured)\n" in result
    assert "answered by ollama/m, a model of 135M parameters on this machine" in result
    assert "135M" not in shown(OLLAMA)


def test_the_chain_is_of_those_whom_the_mode_lets_answer() -> None:
    result = shown({"AI_MODE": "cloud", "OPENAI_API_KEY": "sk-x", **OLLAMA})
    assert "ollama" not in result.partition("Ready")[0].partition("Chain")[2]
    assert "Mode      cloud (as AI_MODE says)" in result


def test_a_model_without_a_price_is_told_before_it_is_refused() -> None:
    result = shown({"OPENAI_API_KEY": "sk-x", "OPENAI_SOTA_MODEL": "made-up"})
    assert "sota made-up (refused until it has a price: AI_PRICE_OVERRIDES), cost_effective gpt-5.4-mini" in result


@pytest.mark.parametrize(
    ("variables", "asked"),
    [
        ({"OPENAI_API_KEY": "sk-x"}, "sota"),
        ({"OLLAMA_BASE_URL": "http://o.invalid", "OLLAMA_COST_EFFECTIVE_MODEL": "m"}, "cost_effective"),
        ({"OPENAI_API_KEY": "sk-x", "AI_FALLBACK_CHAIN": "aws"}, "openai/gpt-5.4"),
    ],
)
def test_the_first_command_asks_for_what_is_served(variables: dict[str, str], asked: str) -> None:
    result = shown(variables)
    [line] = [line for line in result.splitlines() if "/chat/completions" in line]
    words = shlex.split(line)
    assert json.loads(words[words.index("-d") + 1])["model"] == asked
    assert ("nobody answers it" in result) is (asked != "sota")


def test_without_a_chat_model_the_first_command_lists_models() -> None:
    result = shown({"OLLAMA_BASE_URL": "http://o.invalid", "OLLAMA_EMBEDDING_MODEL": "e"})
    assert "Chain     ollama     embeddings only: e" in result
    assert "  curl http://localhost:8000/api/v1/models\n" in result


def test_with_keys_it_says_how_the_commands_get_theirs() -> None:
    from_file = shown({"OPENAI_API_KEY": "k"} | KEYS, key=".env")
    assert "  Auth      keys" in from_file
    [export] = [line for line in from_file.splitlines() if "export" in line]
    assert "-f '/a folder/.env' get ADMIN_API_KEY" in export
    commands = [line for line in from_file.splitlines() if line.startswith("  curl ")]
    assert len(commands) == 3
    assert all('-H "Authorization: Bearer $ADMIN_API_KEY"' in line for line in commands)
    assert "export it in another terminal too" in shown({"OPENAI_API_KEY": "k"} | KEYS, key="environment")
    assert "make -s key >> .env" in shown({"OPENAI_API_KEY": "k", "AUTH_MODE": "keys"})
    assert "Authorization" not in shown({"OPENAI_API_KEY": "k"})


def test_warnings_stand_by_themselves() -> None:
    result = shown({"OPENAI_API_KEY": "k"}, warnings=("one", "two"))
    assert "\n\n  WARNING: one\n  WARNING: two\n\n" in result
