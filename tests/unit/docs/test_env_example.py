"""`.env.example`: every line is a setting that exists, commented out, with a value that can be used."""

import re
from pathlib import Path

from dotenv import dotenv_values

from fusewire.config import Settings, load_settings
from fusewire.services import assemble
from local.environment import read_environment
from local.mode import mode_of
from local.spelling import misspelt
from tests.support.documents import PROJECT
from tests.unit.docs import source

EXAMPLE = PROJECT / ".env.example"
LINES = EXAMPLE.read_text(encoding="utf-8").splitlines()
SETTINGS = [line.removeprefix("# ") for line in LINES if re.match(r"# [A-Z_]+=", line)]


def test_as_it_is_it_sets_nothing() -> None:
    assert dotenv_values(EXAMPLE, interpolate=False) == {}


def test_every_variable_exists_and_every_secret_is_left_blank(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("\n".join(SETTINGS), encoding="utf-8")
    given = dotenv_values(file, interpolate=False)
    assert len(given) == len(SETTINGS) > 20
    assert given.keys() <= source.variables().keys()
    assert misspelt(given.keys(), []) == []
    assert {name for name, value in given.items() if not value} == {
        name for name in given if re.search("API_KEY$", name)
    }


def test_every_value_can_be_used_and_the_defaults_are_the_defaults(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("\n".join(SETTINGS), encoding="utf-8")
    variables = read_environment({}, file).variables
    core = assemble(mode_settings(variables))
    assert core.settings.ai_mode == "hybrid"
    for name, default in source.variables().items():
        if name in variables and name.startswith(("OPENAI_", "ANTHROPIC_", "AI_BUDGET", "AI_CIRCUIT", "AI_MONTHLY")):
            assert variables[name] == default, name


def mode_settings(variables: dict[str, str]) -> Settings:
    return load_settings(variables | {"AI_MODE": mode_of(variables).name})


def test_it_is_tracked_and_the_file_itself_is_not() -> None:
    ignored = (PROJECT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert ".env" in ignored and ".env.example" not in ignored and ".env*" not in ignored
