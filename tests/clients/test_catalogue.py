"""docs/clients.md against the clients that are run, and what the lock file of those in JavaScript says."""

import json
from pathlib import Path

import pytest

from tests.clients.catalogue import CLIENTS, DOCUMENT, Client, main, with_table
from tests.support.clients import IN_NODE


def test_the_table_is_up_to_date() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert with_table(text) == text, "run `make clients`"


def test_the_table_is_written(tmp_path: Path) -> None:
    (tmp_path / "clients.md").write_text("a\n<!-- made by `make clients` -->\nold\n<!-- end -->\nb\n")
    assert main(tmp_path / "clients.md") == 0
    written = (tmp_path / "clients.md").read_text()
    assert (written[:2], written[-2:], "old" in written) == ("a\n", "b\n", False)
    assert "| Codex CLI | `@openai/codex` " in written


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_each_client_is_pinned_and_tested(client: Client) -> None:
    assert client.version[0].isdigit()
    assert (Path(__file__).parent / client.test).exists()


def test_the_lock_file_names_no_registry() -> None:
    packages = json.loads((IN_NODE / "package-lock.json").read_text())["packages"]
    assert not [name for name, each in packages.items() if "resolved" in each]
    assert all("integrity" in each for name, each in packages.items() if name)
    wanted = json.loads((IN_NODE / "package.json").read_text())["dependencies"]
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted
