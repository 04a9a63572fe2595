"""Schemathesis over the whole OpenAPI document, with every scope and none: nothing undocumented is ever answered.

A few examples of each operation, always the same, are part of the suite. `make fuzz` takes more, with the edges of
every schema, and others each time: Schemathesis prints their seed, which SEED= takes.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import pytest

from tests.conftest import cloned
from tests.e2e.test_bad_input import settings
from tests.support.gateway import Books, Gateway, running_gateway
from tests.support.patience import PATIENCE_SECONDS
from tests.support.upstream import running_upstream

ADMIN: Final = "bootstrap-key-0123456789abcdef"
_EXAMPLES: Final = os.environ.get("FUZZ_EXAMPLES")
_SEED: Final = os.environ.get("FUZZ_SEED")
_SECONDS: Final = 1800 if _EXAMPLES else 900
# The document can't say how fields have to fit together, so a request that keeps to it may be refused all the same; and
# one of the statuses from 500 on is what the contract asks for: see below.
_NOT_PROMISED: Final = "positive_data_acceptance,not_a_server_error"
_REFUSALS: Final = {"400", "401", "403", "404", "405", "408", "413", "431"}


@pytest.fixture(scope="module", params=["open", "keys"])
def gateway(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, postgres: str, template: str
) -> Iterator[Gateway]:
    mode = {"AUTH_MODE": request.param} | ({"ADMIN_API_KEY": ADMIN} if request.param == "keys" else {})
    home = tmp_path_factory.mktemp("kept")
    with running_upstream() as vendor, cloned(postgres, template) as url:
        with running_gateway(home, **settings(Books(url), vendor) | mode) as running:
            yield running
            lines = {line.get("event") for line in running.lines()}  # what the runtime itself logs has none
            assert not lines & {"function.error", "function.failed", "ledger.unavailable", "gateway.function_crashed"}
            Books(url).balance()


def answers(
    gateway: Gateway, home: Path, key: str | None, *, without: str = _NOT_PROMISED, only: str | None = None
) -> list[tuple[str, str, str]]:
    """Run Schemathesis as this caller.

    :param only: a regular expression for the paths that are asked; None for all
    :return: (path, status, method) of every answer, but for preflights, which are everybody's
    """
    report = home / "report.har"
    command = [
        sys.executable, "-m", "schemathesis.cli", "run", f"{gateway.base}/openapi.json", "--no-color",
        "--exclude-checks", without, "--report", "har", "--report-har-path", str(report),
        "--request-timeout", str(PATIENCE_SECONDS),
    ]  # fmt: skip
    if _EXAMPLES:
        command += ["--phases", "coverage,fuzzing", "--max-examples", _EXAMPLES, "--continue-on-failure"]
        command += ["--seed", _SEED] if _SEED else []
    else:
        command += [
            "--phases",
            "fuzzing",
            "--max-examples",
            "2" if only else "4",
            "--generation-deterministic",
            "--no-shrink",
        ]
    command += ["--include-path-regex", only] if only else []
    command += ["--header", f"Authorization: Bearer {key}"] if key else []
    run = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=_SECONDS)  # noqa: S603
    assert run.returncode == 0, run.stdout[-20_000:] + run.stderr[-2_000:]
    entries: list[dict[str, Any]] = json.loads(report.read_text())["log"]["entries"]
    for each in entries:
        if each["response"]["status"] >= 500:
            # Confidential data, and nobody who may see it.
            assert 'code":"no_eligible_provider"' in each["response"]["content"]["text"], each
    return [
        (urlsplit(each["request"]["url"]).path, str(each["response"]["status"]), each["request"]["method"])
        for each in entries
        if each["request"]["method"] != "OPTIONS"
    ]


def of_admins(row: list[tuple[str, str, str]]) -> set[str]:
    statuses = [status for path, status, _ in row if path.startswith("/api/v1/admin/")]
    assert len(statuses) > 40
    return set(statuses)


def test_the_document_is_kept(gateway: Gateway, tmp_path: Path) -> None:
    """In open mode by everybody, else by each sort of caller, one without a key included."""
    if gateway.variables["AUTH_MODE"] == "open":
        # Nobody is asked for a key, which the document can't know.
        result = answers(gateway, tmp_path, None, without=f"{_NOT_PROMISED},ignored_auth")
        assert "200" in of_admins(result)
        return
    assert "200" in of_admins(answers(gateway, tmp_path, ADMIN))
    node = posted(gateway, "budgets", {"name": "fuzz", "period": "day"})["id"]
    for scope in ("read", "admin"):
        bound = {"scope_budget_id": node} if scope == "admin" else {}
        key = posted(gateway, "keys", {"name": scope, "scopes": [scope], **bound})["key"]
        result = answers(gateway, tmp_path, key, only="/admin/")
        assert "200" in of_admins(result)
        if scope == "read":
            assert {status for _, status, method in result if method != "GET"} <= _REFUSALS
    completes = posted(gateway, "keys", {"name": "fuzz", "scopes": ["complete"]})["key"]
    for key, may_complete in ((completes, True), (None, False)):
        result = answers(gateway, tmp_path, key)
        assert of_admins(result) <= _REFUSALS
        elsewhere = {status for path, status, _ in result if path == "/api/v1/models"}
        assert ("200" in elsewhere) is may_complete


def posted(gateway: Gateway, what: str, fields: dict[str, object]) -> dict[str, Any]:
    """A key or a budget that an admin makes."""
    answer = httpx.post(
        f"{gateway.base}/admin/{what}",
        json=fields,
        headers={"authorization": f"Bearer {ADMIN}"},
        timeout=PATIENCE_SECONDS,
    )
    made: dict[str, Any] = answer.raise_for_status().json()
    return made
