"""An operator at a terminal: `bin/fusewire` against `make run` with keys, and what it shows against the ledger."""

import json
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support import upstream as vendor
from tests.support.gateway import PROJECT, Books, Gateway, running_gateway
from tests.support.patience import PATIENCE_SECONDS
from tests.support.upstream import Upstream, running_upstream

ADMIN = "bootstrap-key-0123456789abcdef"
PRICES = '{"openai/m": {"input_mtok": 100, "output_mtok": 300}}'


class Terminal:
    """A shell with FUSEWIRE_URL and FUSEWIRE_KEY set."""

    def __init__(self, gateway: Gateway, books: Books) -> None:
        self.gateway, self.books = gateway, books

    def run(self, *arguments: str, key: str = ADMIN, url: str | None = None) -> subprocess.CompletedProcess[str]:
        variables = {"PATH": "/usr/bin:/bin", "FUSEWIRE_URL": url or self.gateway.base, "FUSEWIRE_KEY": key}
        return subprocess.run(  # noqa: S603 - our own program
            [PROJECT / "bin" / "fusewire", *arguments],
            cwd="/",
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def shows(self, *arguments: str) -> list[list[str]]:
        """The cells of a table's lines, or of a list of facts."""
        output = self.run(*arguments)
        assert output.returncode == 0, output.stderr
        return [line.split() for line in output.stdout.splitlines() if set(line) - set(" ─")]

    def json(self, *arguments: str) -> Any:  # noqa: ANN401 - JSON is anything
        output = self.run(*arguments, "--json")
        assert (output.returncode, output.stderr) == (0, "")
        return json.loads(output.stdout, parse_float=Decimal)

    def call(self, key: str) -> httpx.Response:
        body = {"model": "sota", "messages": [{"role": "user", "content": "hi"}], "max_completion_tokens": 5}
        headers = {"authorization": f"Bearer {key}"}
        return httpx.post(f"{self.gateway.base}/chat/completions", json=body, headers=headers, timeout=PATIENCE_SECONDS)


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Terminal, Upstream]]:
    home = tmp_path_factory.mktemp("cli")
    with running_upstream() as upstream:
        variables = {
            "AUTH_MODE": "keys",
            "ADMIN_API_KEY": ADMIN,
            "AI_MODE": "cloud",
            "AI_FALLBACK_CHAIN": "openai",
            "OPENAI_API_KEY": "sk-x",
            "OPENAI_BASE_URL": upstream.url,
            "OPENAI_SOTA_MODEL": "m",
            "AI_PRICE_OVERRIDES": PRICES,
            "LOCAL_CONCURRENCY": "1",
        }
        with running_gateway(home, **variables) as gateway:
            pid_file = (home / "fusewire" / "postgres" / "postmaster.pid").read_text().splitlines()
            books = Books(f"host={pid_file[4]} port={pid_file[3]} user=postgres dbname=fusewire")
            yield Terminal(gateway, books), upstream


def test_a_teams_key_from_its_making_to_its_end(terminal: tuple[Terminal, Upstream], tmp_path: Path) -> None:
    shell, upstream = terminal
    made = shell.run("keys", "create", "search", "--budget", "0.5", "--requests", "600", "--tag", "team=search")
    assert made.returncode == 0
    secret = made.stdout.splitlines()[0]
    assert secret.startswith("fw_") and made.stderr == "The secret, shown this once:\n"
    [key] = [cells[1] for cells in map(str.split, made.stdout.splitlines()) if cells[0] == "id"]

    answer = shell.call(secret)
    assert answer.status_code == 200
    upstream.script.append(vendor.status(500))
    assert shell.call(secret).status_code == 503
    request_id = answer.headers["x-request-id"]
    cost = Decimal(answer.headers["x-fusewire-cost-usd"])

    # Who spent what: people see a table, scripts the same number, finance a file.
    assert ["openai", key, str(cost), "1"] in [cells[:4] for cells in shell.shows("usage", "--by", "provider,key")]
    assert shell.shows("usage", "--by", "key")[-1][:2] == ["total", str(cost)]
    usage = shell.json("usage", "--by", "tag:team")
    assert {"tag:team": "search", "cost_usd": cost}.items() <= usage["rows"][0].items()
    assert usage["total"]["cost_usd"] == cost
    month = datetime.now(UTC).strftime("%Y-%m")
    bill = shell.json("usage", "--month", month)
    assert bill["total"]["cost_usd"] == sum(window["spent_usd"] for window in bill["windows"]) == cost
    csv = shell.run("usage", "--by", "key", "--csv").stdout.splitlines()
    assert csv[0] == "key,key_name,cost_usd,requests,input_tokens,output_tokens" and f"{key},search,{cost},1," in csv[1]
    assert dict(cells[:2] for cells in shell.shows("budget"))["current_spend_usd"] == str(cost)
    assert shell.json("budget")["current_spend_usd"] == cost == shell.books.one("SELECT sum(cost) FROM ledger")

    # One call, all calls, and why one failed.
    [attempt] = shell.json("calls", request_id)["attempts"]
    assert (attempt["key_id"], attempt["cost_usd"], attempt["outcome"]) == (key, cost, "success")
    outcomes = [row["outcome"] for row in shell.json("calls", "--key", key)["rows"]]
    assert outcomes == ["server_error", "success"]
    assert "server_error" in shell.shows("calls", "--outcome", "server_error")[-1]
    [openai] = [cells for cells in shell.shows("providers") if cells[0] == "openai"]
    assert openai[1:5] == ["unknown", "yes", "no", "m"] and "server_error" in openai

    # Change, rotate, reset, revoke.
    changed = shell.json("keys", "update", key, "--budget", "80.000001", "--requests", "none")
    assert changed["requests_per_minute"] is None
    assert shell.json("keys", "show", key)["monthly_budget_usd"] == Decimal("80.000001")
    assert ["forecast.month_end_usd", "-"] in shell.shows("keys", "show", key)
    rotated = shell.json("keys", "rotate", key, "--overlap", "0")["key"]
    assert shell.call(rotated).status_code == 200
    reset = shell.json("keys", "reset", key, "--reason", "agreed", "--yes")
    assert reset["closed"]["spent_usd"] == 2 * cost and reset["opened"]["spent_usd"] == 0
    unsure = shell.run("keys", "revoke", key)
    assert (unsure.returncode, unsure.stderr.count("\n")) == (1, 1)
    assert shell.json("keys", "revoke", key, "--yes")["revoked_at"]
    assert [key] == [row["id"] for row in shell.json("keys", "list")["rows"]]

    # The company's window, and what is kept of all that.
    whole = shell.json("reset", "--yes", "--reason", "approved")
    assert whole["closed"]["spent_usd"] == 2 * cost
    kept = [(row["action"], row["actor"]) for row in shell.json("audit")["rows"]]
    assert kept == shell.books.rows("SELECT action, actor FROM audit ORDER BY n DESC")
    assert len(kept) == 6 and {actor for _, actor in kept} == {"bootstrap"}
    assert "budget.reset" in shell.shows("audit", "--limit", "1")[1]
    update = " ".join(shell.shows("audit", "--action", "key.updated")[1])
    assert f"{key} monthly_budget_usd: 0.5 > 80.000001; requests_per_minute: 600 > - " in update


def test_a_probe_asks_each_provider_and_shows_what_it_said(terminal: tuple[Terminal, Upstream]) -> None:
    shell, _ = terminal
    output = {row["id"]: row["probe"] for row in shell.json("providers", "--probe")["providers"]}
    assert output["openai"]["ok"] is True
    assert output["azure"] is None
    assert "answered" in shell.run("providers", "--probe").stdout


def test_what_goes_wrong_is_a_line_and_a_status(terminal: tuple[Terminal, Upstream]) -> None:
    shell, _ = terminal
    plain = shell.json("keys", "create", "plain")["key"]
    for usage, words in (
        (shell.run("budget", key=""), "set FUSEWIRE_KEY to a key with the admin scope (invalid_api_key, request "),
        (shell.run("budget", key="fw_wrong"), "invalid_api_key"),
        (shell.run("budget", key=plain), "FUSEWIRE_KEY needs the admin scope, or read to look only (permission_denied"),
        (shell.run("keys", "show", "key_nobody"), "key_not_found"),
        (shell.run("calls", "no-such-call"), "call_not_found"),
        (shell.run("usage", "--by", "colour"), "invalid_request_error"),
        (shell.run("keys", "create", "x", "--scope", "everything"), "invalid_request_error"),
        (shell.run("budget", url="http://127.0.0.1:9"), "nothing usable answers at http://127.0.0.1:9"),
    ):
        assert (usage.returncode, usage.stdout) == (1, "")
        assert words in usage.stderr and usage.stderr.count("\n") == 1
    assert shell.run("bugdet").returncode == 2
