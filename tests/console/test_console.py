"""The console as people meet it: built by `make run`, in a real Chromium, over a vendor that bills."""

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.support.gateway import PROJECT, Gateway, eventually
from tests.support.guarded import ADMIN, PRICES, Admin, ask, guarded
from tests.support.patience import PATIENCE_SECONDS
from tests.support.upstream import Upstream, status

if "FUSEWIRE_CONSOLE" not in os.environ:
    pytest.skip("`make console-test` installs Node.js and a browser, and runs this", allow_module_level=True)

HERE = PROJECT / "tests" / "console"
NODE = PROJECT / ".venv-console" / "node" / "bin" / "node"
HOSTILE = "<img src=x onerror=alert(1)> & 日本"
LONG = f"{HOSTILE} \u0645\u0631\u062d\u0628\u0627 🧨 {'W' * 140}"
"""Markup, right to left, an emoji, and a word that no column holds."""
MODEL = f"<script>alert(1)</script>{'m' * 150}"


def run(*command: str, **variables: str) -> None:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    done = subprocess.run(  # noqa: S603 - Node.js, in its environment
        [str(NODE), *command],
        cwd=HERE,
        env=kept | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    print(done.stdout)  # noqa: T201 - each of its tests, for whoever looks
    assert done.returncode == 0, done.stdout[-8000:]


def fill(gateway: Gateway, admin: Admin) -> None:
    """1,000 keys of 20 teams, each with its entry in the audit, and two calls of each: what every page has to find its
    way in."""
    body = {"model": "sota", "max_completion_tokens": 5, "messages": [{"role": "user", "content": "Hello"}]}

    def make(number: int) -> str:
        return str(admin.make(name=f"service {number:04}", tags={"team": f"team {number % 20}"})["key"])

    with ThreadPoolExecutor(8) as pool, httpx.Client(timeout=PATIENCE_SECONDS) as client:

        def call(key: str) -> int:
            headers = {"authorization": f"Bearer {key}"}
            return client.post(f"{gateway.base}/chat/completions", json=body, headers=headers).status_code

        keys = list(pool.map(make, range(1000)))
        assert set(pool.map(call, keys * 2)) == {200}


def test_the_types_hold() -> None:
    run("../../console/node_modules/typescript/bin/tsc", "--noEmit", "--project", "../../console")


def test_its_parts() -> None:
    run("node_modules/vitest/vitest.mjs", "run", "unit.test.ts", "format.test.ts")


def test_its_pages(tmp_path: Path, upstream: Upstream, database_url: str) -> None:
    settings = {"CONSOLE": "on", "LOCAL_CONCURRENCY": "4"}
    settings["OPENAI_COST_EFFECTIVE_MODEL"] = MODEL
    priced = {f"openai/{MODEL}": {"input_mtok": 1, "output_mtok": 3}}
    settings["AI_PRICE_OVERRIDES"] = json.dumps(json.loads(PRICES) | priced)
    with guarded(tmp_path, upstream, database_url, **settings) as (gateway, admin):
        fill(gateway, admin)
        made = admin.ask("POST", "/budgets", {"name": "Search", "limit_usd": 400})["id"]
        admin.ask("POST", "/budgets", {"name": HOSTILE, "parent_id": made})
        plain = admin.make(name="search-prod", budget_id=made, tags={"team": "search"})["key"]
        reader = admin.make(name="finance", scopes=["read"])["key"]
        bound = admin.make(name="lead", scopes=["complete", "admin"], scope_budget_id=made, budget_id=made)["key"]
        hostile = admin.make(name=LONG, budget_id=made, tags={"team": LONG[:100]})
        for key in (plain, plain, ADMIN):
            ask(gateway.openai(key=key))
        ask(gateway.openai(key=hostile["key"]), model="cost_effective")
        upstream.script.append(status(500))
        failed = httpx.post(
            f"{gateway.base}/chat/completions",
            headers={"authorization": f"Bearer {plain}"},
            json={"model": "sota", "max_completion_tokens": 5, "messages": [{"role": "user", "content": "Hello"}]},
        )
        assert failed.status_code == 503
        page = f"http://127.0.0.1:{gateway.port}/"
        browser = {"accept": "text/html"}
        eventually(lambda: 'id="root"' in httpx.get(page, headers=browser).text, seconds=600)
        run(
            *("node_modules/vitest/vitest.mjs", "run", "pages.test.ts", "steering.test.ts"),
            CONSOLE_URL=page,
            CONSOLE_ADMIN=ADMIN,
            CONSOLE_READ=reader,
            CONSOLE_PLAIN=plain,
            CONSOLE_BOUND=bound,
            CONSOLE_HOSTILE=HOSTILE,
            CONSOLE_HOSTILE_KEY=hostile["id"],
            CONSOLE_FAILED=failed.headers["x-request-id"],
        )
