"""The snapshot in the repository is what the script makes of the installed genai-prices."""

import json
from datetime import time, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest
from genai_prices.types import ModelPrice, TimeOfDateConstraint

from scripts import snapshot_prices


def test_the_snapshot_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert snapshot_prices.main(["--check"]) == 0, "run: python -m scripts.snapshot_prices"
    assert "up to date" in capsys.readouterr().out


def test_check_fails_on_a_stale_or_missing_snapshot_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    snapshot = tmp_path / "prices.json"
    assert snapshot_prices.main(["--check"], snapshot=snapshot) == 1
    assert not snapshot.exists()
    snapshot.write_text("{}")
    assert snapshot_prices.main(["--check"], snapshot=snapshot) == 1
    assert snapshot.read_text() == "{}"
    assert "python -m scripts.snapshot_prices" in capsys.readouterr().out


def test_writes_the_snapshot_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    snapshot = tmp_path / "prices.json"
    assert snapshot_prices.main([], snapshot=snapshot) == 0
    assert snapshot.read_text() == snapshot_prices.SNAPSHOT.read_text()
    assert snapshot_prices.main([], snapshot=snapshot) == 0
    assert capsys.readouterr().out.splitlines()[1] == "prices.json is up to date."


def test_names_its_source_and_licence_and_holds_no_float() -> None:
    def refuse(text: str) -> float:
        raise AssertionError(f"a float in the snapshot: {text}")

    snapshot = json.loads(snapshot_prices.SNAPSHOT.read_text(), parse_float=refuse)
    assert snapshot["source"].startswith("genai-prices")
    assert snapshot["licence"] == "MIT"
    assert snapshot["unit"] == "USD per million tokens"
    assert snapshot["providers"].keys() >= {"azure", "aws", "google", "openai", "anthropic"}
    assert all(set(p["fallback"]) <= snapshot["providers"].keys() for p in snapshot["providers"].values())


def test_a_new_kind_of_price_stops_it() -> None:
    with pytest.raises(snapshot_prices.UnknownDataError, match="surprise_mtok"):
        snapshot_prices.token_prices("m", ModelPrice(input_mtok=Decimal(1), surprise_mtok=Decimal(1)))


def test_times_of_the_day_are_kept_in_utc() -> None:
    tokyo = timezone(timedelta(hours=9))
    constraint = TimeOfDateConstraint(start_time=time(1, 0, tzinfo=tokyo), end_time=time(10, 30))
    assert snapshot_prices.condition(constraint) == {"between": ["16:00:00", "10:30:00"]}
