"""A deployment migrates first, and the versions before it serve on the new schema until all functions are new.

So code must live with a schema that has grown. What it can't live with is caught by the release that it is: today's
code runs on tables that have a column more than it knows, with functions whose results have a field more, and its own
`migrate`, as a rollback runs it, leaves both alone. And where the checkout has a release before this one, as a tag
v1.2.3, that release's own code runs on today's schema.
"""

import os
import re
import shutil
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Final

import psycopg
import pytest
from psycopg import sql

from fusewire import VERSION
from fusewire.store.migrate import migrate
from tests.conftest import as_app_role
from tests.integration.ai.observing import Books
from tests.support.patience import PATIENCE_SECONDS
from tests.support.upstream import Upstream

PROJECT: Final = Path(__file__).resolve().parents[3]
# Each by its sample, in one process, as one environment after another would.
SCRIPT: Final = """
import json, runpy, sys
from pathlib import Path

class Context:
    aws_request_id = "lambda-request-1"
    def get_remaining_time_in_millis(self):
        return 60_000

root = Path(sys.argv[1])
for name in sys.argv[2:]:
    function, _, sample = name.partition(":")
    handler = runpy.run_path(str(root / "functions" / function / "app.py"))["handler"]
    answer = handler(json.loads((root / "events" / f"{sample or function}.json").read_text()), Context())
    print("answered", name, answer.get("statusCode"))
"""
ASKED: Final = (
    "complete",
    "embed",
    "models",
    "admin_budget",
    "admin_budget:admin_budget_reset",
    "admin_keys:admin_keys_create",
    "admin_keys",
    "admin_usage",
    "admin_usage:admin_usage_calls",
    "admin_usage:admin_usage_audit",
    "monthly_reset",
)


_PUBLIC_FUNCTIONS: Final = """
    SELECT proname FROM pg_proc
    WHERE pronamespace = 'public'::regnamespace AND proargtypes[0] = 'jsonb'::regtype AND pronargs = 1
          AND proargnames = '{p}' AND prorettype = 'jsonb'::regtype
"""
_WITH_A_FIELD_MORE: Final = """
    CREATE FUNCTION {}(p jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$
    DECLARE result jsonb := {}(p);
    BEGIN
        IF jsonb_typeof(result) = 'object' THEN RETURN result || '{{"of_tomorrow": 1}}'; END IF;
        RETURN result;
    END $$
"""


def release_before() -> str | None:
    """The tag of the newest release before this one, where the checkout has it."""
    git = shutil.which("git")
    if git is None:
        return None
    output = subprocess.run([git, "tag", "--sort=-v:refname"], cwd=PROJECT, capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    releases = (tag for tag in output.stdout.split() if re.fullmatch(r"v\d+\.\d+\.\d+", tag))
    return next((tag for tag in releases if tag != f"v{VERSION}"), None)


def released(tag: str, into: Path) -> Path:
    """That release's code and samples."""
    packed = subprocess.run(  # noqa: S603 - our own words
        ["git", "archive", tag, "layers/core/python", "functions", "events"],  # noqa: S607
        cwd=PROJECT, capture_output=True, check=True,
    ).stdout  # fmt: skip
    with tarfile.open(fileobj=BytesIO(packed)) as archive:
        archive.extractall(into, filter="data")
    return into


def served(root: Path, database_url: str, upstream: Upstream) -> list[str]:
    """What the code in `root` answers to each of `ASKED`, as the functions' role."""
    variables = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(root / "layers/core/python"),
        "AUTH_MODE": "open",
        "DATABASE_URL": as_app_role(database_url),
        "AI_FALLBACK_CHAIN": "openai",
        "OPENAI_API_KEY": "sk-x",
        "OPENAI_BASE_URL": upstream.url,
        "OPENAI_SOTA_MODEL": "m",
        "OPENAI_EMBEDDING_MODEL": "m",
        "AI_PRICE_OVERRIDES": '{"openai/m": {"input_mtok": 100, "output_mtok": 300}}',
    }
    output = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", SCRIPT, str(root), *ASKED],
        env=variables, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS,
    )  # fmt: skip
    assert output.returncode == 0, output.stderr
    return [line.removeprefix("answered ") for line in output.stdout.splitlines() if line.startswith("answered ")]


def grow(database_url: str) -> None:
    """What a later release may do: a column more in every table, a field more in every function's result."""
    with psycopg.connect(database_url) as connection:
        for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall():
            table = sql.Identifier(name)
            connection.execute(sql.SQL("ALTER TABLE {} ADD COLUMN of_tomorrow int DEFAULT 0").format(table))
        for (name,) in connection.execute(_PUBLIC_FUNCTIONS).fetchall():
            function, inner = sql.Identifier(name), sql.Identifier(f"{name}_of_today")
            connection.execute(sql.SQL("ALTER FUNCTION {}(jsonb) RENAME TO {}").format(function, inner))
            connection.execute(sql.SQL(_WITH_A_FIELD_MORE).format(function, inner))
        connection.execute("UPDATE schema_functions SET version = version + 1, hash = 'of tomorrow'")
        connection.execute("INSERT INTO schema_migration (name) VALUES ('9999_of_tomorrow.sql')")


def expected() -> list[str]:
    status = {"admin_keys:admin_keys_create": 201, "monthly_reset": None}
    return [f"{name} {status.get(name, 200)}" for name in ASKED]


def test_this_releases_code_on_a_schema_that_has_grown(database_url: str, upstream: Upstream) -> None:
    grow(database_url)
    assert migrate(database_url) == []
    assert grown_result(database_url) == {"of_tomorrow": 1}
    assert served(PROJECT, database_url, upstream) == expected()
    Books(database_url).check()
    assert Books(database_url).spent() > 0


def grown_result(database_url: str) -> object:
    with psycopg.connect(as_app_role(database_url)) as connection:
        [(result,)] = connection.execute("SELECT ledger_ping('{}'::jsonb)").fetchall()
        return result


def test_the_release_befores_code_on_this_schema(tmp_path: Path, database_url: str, upstream: Upstream) -> None:
    tag = release_before()
    if tag is None:
        pytest.skip("this checkout has no tag of a release before this one")
    assert served(released(tag, tmp_path), database_url, upstream) == expected()
    Books(database_url).check()
