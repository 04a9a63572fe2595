"""Agents on the command line, as docs/clients.md configures them: each is asked for one thing, and says what it did."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

import pytest

from tests.support.clients import GATEWAY, IN_NODE, INSTALLED, run
from tests.support.formats import Setting

LLM_SETTINGS: Final = (
    f"extra-openai-models.yaml: [{{model_id: fusewire, model_name: sota, api_base: '{GATEWAY}', "
    "api_key_name: fusewire, supports_tools: true, supports_schema: true}]",
    "llm keys set fusewire --value fw_...",
    "llm -m fusewire",
)
AIDER_SETTINGS: Final = (f"OPENAI_API_BASE={GATEWAY}", "OPENAI_API_KEY=fw_...", "aider --model openai/sota")
OPENCODE_SETTINGS: Final = (
    'opencode.json: {"provider": {"fusewire": {"npm": "@ai-sdk/openai-compatible",',
    f'"options": {{"baseURL": "{GATEWAY}", "apiKey": "{{env:FUSEWIRE_KEY}}"}}, "models": {{"sota": {{}}}}}}}}}}',
    "opencode --model fusewire/sota",
)
OPENCODE_WITHOUT_TITLES: Final = {"agent": {"title": {"disable": True}}}
CLINE_SETTINGS: Final = (
    f"cline auth --provider openai-compatible --apikey fw_... --modelid sota --baseurl {GATEWAY}",
    "cline",
)
PI_SETTINGS: Final = (
    f'~/.pi/agent/models.json: {{"providers": {{"fusewire": {{"baseUrl": "{GATEWAY}", "api": "openai-completions",',
    '"apiKey": "$FUSEWIRE_KEY", "models": [{"id": "sota"}]}}}',
    "pi --model fusewire/sota",
)
_FUNCTIONS: Final = """
from pathlib import Path

def read_file(path: str) -> str:
    return Path(path).read_text()

def write_file(path: str, text: str) -> str:
    Path(path).write_text(text)
    return "written"
"""
_KEY: Final = {"FUSEWIRE_KEY": "none", "OPENAI_API_KEY": "none"}

Run = Callable[[str, Path, Setting, str, int], str]
"""(prompt, folder, setting, model, exit status) -> what it printed."""


def run_llm(prompt: str, folder: Path, setting: Setting, model: str, status: int = 0, *, more: str = "") -> str:
    """Simon Willison's `llm`, with two functions as its tools; `more` settings of its model."""
    home = folder.parent / "llm"
    home.mkdir(exist_ok=True)
    (home / "extra-openai-models.yaml").write_text(_of(setting, model, LLM_SETTINGS[0]).replace("}]", f"{more}}}]"))
    (home / "keys.json").write_text(json.dumps({"fusewire": "none"}))
    command = [str(INSTALLED / "openai-3" / "bin" / "llm"), "-m", "fusewire", "--functions", _FUNCTIONS, prompt]
    return run(command, folder, {"LLM_USER_PATH": str(home)}, status=status)


def run_aider(prompt: str, folder: Path, setting: Setting, model: str, status: int = 0) -> str:
    """aider, which edits by what the model writes instead of by tools. Its packages need a Python below 3.13."""
    aider = INSTALLED / "aider" / "bin" / "aider"
    if not aider.exists():
        pytest.skip("aider needs a Python below 3.13")
    command = [
        str(aider), "--model", f"openai/{model}", "--message", prompt, "calc.py",
        "--edit-format", "diff", "--yes-always", "--no-git", "--no-check-update", "--analytics-disable",
        "--no-show-model-warnings", "--no-show-release-notes", "--no-pretty", "--map-tokens", "0",
    ]  # fmt: skip
    variables = {"OPENAI_API_BASE": setting.gateway.base, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    return run(command, folder, _KEY | variables, status=status)


def run_opencode(
    prompt: str,
    folder: Path,
    setting: Setting,
    model: str,
    status: int = 0,
    *,
    sdk: str = "openai-compatible",
    arguments: Sequence[str] = (),
    more: Mapping[str, object] = MappingProxyType({}),
) -> str:
    """`opencode run`, over one of the AI SDK's providers; `more` settings of `opencode.json`."""
    settings = _of(setting, model, *OPENCODE_SETTINGS[:2]).replace("openai-compatible", sdk)
    (folder / "opencode.json").write_text(json.dumps(json.loads(settings) | {**more}))
    quiet = {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"}
    command = [str(_bin() / "opencode"), "run", "--auto", *arguments, "--model", f"fusewire/{model}", prompt]
    return run(command, folder, _KEY | quiet, status=status)


def run_cline(prompt: str, folder: Path, setting: Setting, model: str, status: int = 0) -> str:
    """Cline, in its command line; by its default a process of its own would stay behind."""
    cline = str(_bin() / "cline")
    settings = CLINE_SETTINGS[0].split()[1:]
    settings = [{"sota": model, "fw_...": "none", GATEWAY: setting.gateway.base}.get(word, word) for word in settings]
    alone = {"CLINE_SESSION_BACKEND_MODE": "local"}
    run([cline, *settings], folder, alone)
    return run([cline, prompt], folder, alone, status=status)


def run_pi(
    prompt: str, folder: Path, setting: Setting, model: str, status: int = 0, *, api: str = "openai-completions"
) -> str:
    """`pi -p`, over one of its APIs."""
    home = folder.parent / ".pi" / "agent"
    home.mkdir(parents=True, exist_ok=True)
    settings = _of(setting, model, *PI_SETTINGS[:2]).replace("openai-completions", api)
    if api == "anthropic-messages":
        settings = settings.replace("/api/v1", "")
    (home / "models.json").write_text(settings)
    command = [str(_bin() / "pi"), "-p", "--model", f"fusewire/{model}", prompt]
    return run(command, folder, _KEY | {"PI_OFFLINE": "1"}, status=status)


def _of(setting: Setting, model: str, *settings: str) -> str:
    """What a file holds: the first line begins with its name."""
    whole = "".join(settings).partition(": ")[2]
    return whole.replace(GATEWAY, setting.gateway.base).replace("sota", model)


def _bin() -> Path:
    return IN_NODE / "node_modules" / ".bin"
