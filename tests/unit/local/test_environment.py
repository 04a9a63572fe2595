"""What the laptop's gateway is told: the environment over `.env`, blank values, numbers in their ranges."""

from pathlib import Path

import pytest

from local import StartError
from local.environment import read_environment


def test_the_defaults_of_a_laptop(tmp_path: Path) -> None:
    read = read_environment({}, tmp_path / ".env")
    assert (read.port, read.concurrency) == (8000, 8)
    assert read.home == Path.cwd() / ".fusewire"
    assert read.variables == {"AI_MODE": "local", "AUTH_MODE": "open"}


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("AI_MODE=cloud\nPORT=1111\nLOG_LEVEL=DEBUG\nNAME='in \"quotes\"'\nLITERAL=${PORT}\n")
    read = read_environment({"AI_MODE": "hybrid", "PORT": "2222"}, file)
    assert read.port == 2222
    assert read.variables["AI_MODE"] == "hybrid"
    assert read.variables["LOG_LEVEL"] == "DEBUG"
    assert read.variables["NAME"] == 'in "quotes"'
    assert read.variables["LITERAL"] == "${PORT}"


@pytest.mark.parametrize("blank", ["", " ", "\t"])
def test_blank_counts_as_unset(tmp_path: Path, blank: str) -> None:
    file = tmp_path / ".env"
    file.write_text(f'DATABASE_URL="{blank}"\nAI_MODE=cloud\nEMPTY=\nBARE\n')
    read = read_environment({"AI_MODE": blank, "PORT": blank, "FUSEWIRE_HOME": blank}, file)
    assert read.port == 8000
    assert read.home.name == ".fusewire"
    assert read.variables == {"AI_MODE": "cloud", "AUTH_MODE": "open"}


@pytest.mark.parametrize(("name", "high"), [("PORT", 65_535), ("LOCAL_CONCURRENCY", 32)])
@pytest.mark.parametrize("value", ["0", "-1", "1.5", "1e3", "eight", "0x10", "8 0", "too many"])
def test_a_number_that_cannot_be_used(tmp_path: Path, name: str, high: int, value: str) -> None:
    with pytest.raises(StartError) as caught:
        read_environment({name: value}, tmp_path / ".env")
    assert str(caught.value) == f"{name}={value} can't be used: it must be a whole number from 1 to {high}."
    with pytest.raises(StartError):
        read_environment({name: str(high + 1)}, tmp_path / ".env")
    read_environment({name: f" {high} "}, tmp_path / ".env")


def test_home_may_be_relative_or_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert read_environment({"FUSEWIRE_HOME": "here"}, tmp_path / ".env").home == tmp_path / "here"
    assert read_environment({"FUSEWIRE_HOME": "~/data"}, tmp_path / ".env").home == tmp_path / "me" / "data"


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"OPENAI_API_KEY=\xff\xfe\n")
    with pytest.raises(StartError, match=r"\.env can't be read"):
        read_environment({}, file)


def test_whom_to_migrate_as_is_for_a_server_of_ones_own_and_not_for_the_workers(tmp_path: Path) -> None:
    env = tmp_path / ".env"
    assert read_environment({}, env).migration_database_url is None
    assert read_environment({"DATABASE_URL": "host=a"}, env).migration_database_url == "host=a"
    read = read_environment({"DATABASE_URL": "host=a", "MIGRATION_DATABASE_URL": "host=a user=owner"}, env)
    assert read.migration_database_url == "host=a user=owner"
    assert read.variables["DATABASE_URL"] == "host=a"
    assert "MIGRATION_DATABASE_URL" not in read.variables
    with pytest.raises(StartError, match="MIGRATION_DATABASE_URL"):
        read_environment({"MIGRATION_DATABASE_URL": "host=a user=owner"}, env)
