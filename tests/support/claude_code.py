"""Claude Code, unmodified, in front of a gateway with two scripted vendors: Anthropic, and one of OpenAI's protocol."""

import json
import os
import pty
import re
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from tests.support.anthropic_vendor import Vendor, running_vendor
from tests.support.clients import IN_NODE, clients_environment, clients_gateway, node, run
from tests.support.formats import Setting
from tests.support.gateway import eventually
from tests.support.patience import PATIENCE_SECONDS

CLAUDE: Final = "claude-opus-5-5"
HAIKU: Final = "claude-haiku-4-5"
DEAR_CLAUDE: Final = "anthropic/claude-dear-5-5"
CLAUDE_CODE_SETTINGS: Final = (
    "ANTHROPIC_BASE_URL=http://127.0.0.1:8000",
    "ANTHROPIC_AUTH_TOKEN=fw_...",
    "ANTHROPIC_MODEL=sota",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL=cost_effective",
)
_INPUT_USD, _OUTPUT_USD = Decimal("0.0001"), Decimal("0.0003")
_COMMAND: Final = IN_NODE / "node_modules" / "@anthropic-ai" / "claude-code" / "cli-wrapper.cjs"


@dataclass(frozen=True, slots=True)
class Claude:
    """One gateway, kept for a module."""

    setting: Setting
    vendor: Vendor

    @property
    def base(self) -> str:
        """Where Anthropic's clients look for it: they add `/v1`."""
        return self.setting.gateway.base.removesuffix("/api/v1")

    def settle(self) -> None:
        """Wait until nothing is reserved; what was booked is what Anthropic billed, to the last cent."""
        eventually(lambda: not self.setting.gateway.budget()["reserved_usd"])
        booked = self.setting.books.one(
            "SELECT coalesce(sum(cost), 0) FROM ledger WHERE cost_basis = 'actual' AND provider = 'anthropic'"
        )
        assert booked == sum(map(_cost, self.vendor.billed))
        self.setting.settle()


def _cost(usage: dict[str, Any]) -> Decimal:
    into, out = int(usage["input_tokens"]), int(usage["output_tokens"])
    return _INPUT_USD * into + _OUTPUT_USD * out


@contextmanager
def claude_gateway(home: Path, postgres: str, template: str) -> Iterator[Claude]:
    """A gateway for a module, whose tiers are Anthropic's."""
    rates = ("input_mtok", "cached_input_mtok", "cache_write_mtok", "cache_write_1h_mtok")
    price = {**dict.fromkeys(rates, 100), "output_mtok": 300}
    prices = {
        "openai/*": {"input_mtok": 100, "output_mtok": 300},
        "anthropic/*": price,
        DEAR_CLAUDE: dict.fromkeys(price, 10**8),
    }
    with running_vendor() as vendor:
        more = {
            "ANTHROPIC_API_KEY": "sk-x",
            "ANTHROPIC_BASE_URL": vendor.url,
            "ANTHROPIC_SOTA_MODEL": CLAUDE,
            "ANTHROPIC_COST_EFFECTIVE_MODEL": HAIKU,
            "AI_DEFAULT_PROVIDER": "anthropic",
            "AI_PRICE_OVERRIDES": json.dumps(prices),
        }
        with clients_gateway(home, postgres, template, **more) as setting:
            yield Claude(setting, vendor)


def _variables(claude: Claude, folder: Path, model: str) -> dict[str, str]:
    settings = dict(line.split("=", 1) for line in CLAUDE_CODE_SETTINGS)
    own = {"ANTHROPIC_BASE_URL": claude.base, "ANTHROPIC_AUTH_TOKEN": "none", "ANTHROPIC_MODEL": model}
    # It runs as whoever runs the tests, and says nothing to its maker meanwhile.
    silent = ("DISABLE_TELEMETRY", "DISABLE_ERROR_REPORTING", "DISABLE_AUTOUPDATER")
    quiet = {"IS_SANDBOX": "1", "TERM": "xterm-256color", **dict.fromkeys(silent, "1")}
    return {**clients_environment(folder), **settings, **own, **quiet}


def run_claude(prompt: str, *arguments: str, folder: Path, claude: Claude, model: str, status: int = 0) -> str:
    """`claude -p`; what it printed."""
    command = [str(node()), str(_COMMAND), "-p", prompt, "--permission-mode", "bypassPermissions", *arguments]
    return run(command, folder, _variables(claude, folder, model), status=status)


def at_a_terminal(said: Sequence[str], until: Callable[[], bool], *, folder: Path, claude: Claude, model: str) -> str:
    """Claude Code with a terminal of its own, in which these lines are typed; what it showed until this holds."""
    trusted = {str(folder): {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}}
    known = {"hasCompletedOnboarding": True, "theme": "dark", "projects": trusted}
    (folder.parent / ".claude.json").write_text(json.dumps(known))
    command = [str(node()), str(_COMMAND)]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execve(command[0], command, _variables(claude, folder, model))  # noqa: S606 - a program of the tests
    shown = b""
    waiting, ends = [*said], time.monotonic() + PATIENCE_SECONDS
    try:
        while time.monotonic() < ends and not (not waiting and until()):
            if select.select([terminal], [], [], 0.2)[0]:
                shown += os.read(terminal, 65_536)
            elif waiting and "❯".encode() in shown:
                # It is silent, so it has read what was typed before.
                os.write(terminal, waiting.pop(0).encode())
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]|\x1b\][^\x07]*\x07", "", shown.decode(errors="replace"))


def pdf(pages: int) -> bytes:
    """A PDF of so many empty pages."""
    kids = " ".join(f"{3 + place} 0 R" for place in range(pages))
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", f"<< /Type /Pages /Kids [{kids}] /Count {pages} >>"]
    objects += ["<< /Type /Page /Parent 2 0 R /MediaBox [0 0 200 200] >>"] * pages
    text = "%PDF-1.4\n"
    places = []
    for number, each in enumerate(objects, 1):
        places.append(len(text))
        text += f"{number} 0 obj\n{each}\nendobj\n"
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    start = len(text)
    text += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    text += f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n"
    return text.encode()
