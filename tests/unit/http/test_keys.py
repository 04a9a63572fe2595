"""The admin API's bodies for keys: what is let in at the limits, and what a key tells before its first call."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError

from fusewire.config import load_settings
from fusewire.http.keys import CreateKeyRequest, RotateKeyRequest, UpdateKeyRequest, key_body, key_forecast
from fusewire.json import dumps
from fusewire.keys import Key

LEAST: dict[str, Any] = {"name": "team", "scopes": ["complete"]}


def created(**fields: object) -> dict[str, Any]:
    return CreateKeyRequest.model_validate_json(dumps(LEAST | fields)).given()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "x" * 200),
        ("name", "検索 チーム"),
        ("scopes", ["complete", "admin"]),
        ("monthly_budget_usd", 0),
        ("monthly_budget_usd", 10**9),
        ("monthly_budget_usd", Decimal("999999999.999999")),
        ("requests_per_minute", 1),
        ("requests_per_minute", 10**9),
        ("tokens_per_minute", 10**15),
        ("allowed_models", ["sota", "openai/*", "gpt-4o", "azure/our deployment"]),
        ("allowed_classifications", ["public", "internal", "confidential"]),
        ("tags", {"team": "", "x" * 200: "y" * 200}),
        ("tags", {str(number): "" for number in range(50)}),
    ],
)
def test_what_is_allowed_is_kept_as_it_is(field: str, value: object) -> None:
    assert created(**{field: value})[field] == value


def test_a_time_is_kept_with_its_offset() -> None:
    later = (datetime.now(UTC) + timedelta(days=99 * 365)).replace(microsecond=0)
    assert created(expires_at=later.isoformat())["expires_at"] == later
    with pytest.raises(ValidationError, match="within 100 years"):
        created(expires_at=(later + timedelta(days=2 * 365)).isoformat())


def test_a_new_key_has_every_field_and_a_changed_one_those_that_were_sent() -> None:
    unset = {"monthly_budget_usd", "requests_per_minute", "tokens_per_minute", "allowed_models",
             "allowed_classifications", "expires_at"}  # fmt: skip
    assert created() == LEAST | dict.fromkeys(unset) | {"tags": {}}
    changes: list[dict[str, object]] = [{}, {"monthly_budget_usd": None}, {"tags": {}}, {"scopes": ["admin"]}]
    for sent in changes:
        assert UpdateKeyRequest.model_validate_json(dumps(sent)).given() == sent


@pytest.mark.parametrize("seconds", [0, 30 * 24 * 60 * 60])
def test_an_overlap_is_up_to_thirty_days(seconds: int) -> None:
    assert RotateKeyRequest(overlap_seconds=seconds).overlap_seconds == seconds


@pytest.mark.parametrize(("limit", "state"), [(None, "CLOSED"), ("12.5", "CLOSED"), ("0", "OPEN")])
def test_a_key_that_has_not_called_yet_has_spent_nothing(limit: str | None, state: str) -> None:
    secrets = [{"prefix": "fw_old"}, {"prefix": "fw_new"}]
    key = Key({"id": "key_1", "monthly_budget_usd": limit, "secrets": secrets}, budget=None)
    told = key_body(key)
    cap = None if limit is None else Decimal(limit)
    assert (told["current_spend_usd"], told["reserved_usd"], told["remaining_usd"]) == (0, 0, cap)
    assert (told["state"], told["window"], told["minute"], told["prefix"]) == (state, None, None, "fw_new")
    assert "key" not in told and key_body(key, "fw_secret")["key"] == "fw_secret"
    assert key_forecast(key, load_settings({})) == {"month_end_usd": None, "exhausted_at": None}
