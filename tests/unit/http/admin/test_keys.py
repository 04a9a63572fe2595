"""The admin API's bodies for keys: what is let in at the limits, and what a key tells before its first call."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import pytest
from pydantic import ValidationError

from fusewire.budget.keys import Key, KeyBudgetsRow, KeyRow
from fusewire.config import load_settings
from fusewire.http.admin.keys import (
    CreateKeyRequest,
    KeyAttributes,
    KeyResponse,
    KeyWithSecret,
    RotateKeyRequest,
    UpdateKeyRequest,
    key_forecast,
)
from fusewire.json import dumps

PREFIXES = ("fw_old", "fw_new")
MINIMAL: dict[str, Any] = {"name": "team", "scopes": ["complete"]}


def created(**fields: object) -> dict[str, Any]:
    return CreateKeyRequest.model_validate_json(dumps(MINIMAL | fields)).attributes()


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
    unset = KeyAttributes.model_fields.keys() - MINIMAL.keys()
    assert unset >= {"monthly_budget_usd", "requests_per_minute", "expires_at", "tags"}
    assert created() == MINIMAL | dict.fromkeys(unset) | {"tags": {}, "period": "month"}
    changes: list[dict[str, object]] = [{}, {"monthly_budget_usd": None}, {"tags": {}}, {"scopes": ["admin"]}]
    for sent in changes:
        assert UpdateKeyRequest.model_validate_json(dumps(sent)).attributes() == sent


@pytest.mark.parametrize("seconds", [0, 30 * 24 * 60 * 60])
def test_an_overlap_is_up_to_thirty_days(seconds: int) -> None:
    assert RotateKeyRequest(overlap_seconds=seconds).overlap_seconds == seconds


def test_a_column_of_a_later_release_is_not_shown() -> None:
    secrets = [{"prefix": "fw_new", "created_at": "2026-11-25T09:00:00+00:00", "expires_at": None}]
    stored = {"id": "key_1", "monthly_budget_usd": None, "secrets": secrets, "of_tomorrow": 1}
    row = cast(KeyBudgetsRow, stored | {"budget": None, "written": None})
    assert Key.read(row).stored == stored
    assert "of_tomorrow" not in KeyWithSecret.of(Key.read(row), key="fw_secret").body()


@pytest.mark.parametrize(("limit", "state"), [(None, "CLOSED"), ("12.5", "CLOSED"), ("0", "OPEN")])
def test_a_key_that_has_not_called_yet_has_spent_nothing(limit: str | None, state: str) -> None:
    secrets = [{"prefix": prefix, "created_at": "2026-11-25T09:00:00+00:00", "expires_at": None} for prefix in PREFIXES]
    stored = {"id": "key_1", "monthly_budget_usd": limit, "secrets": secrets}
    key = Key(cast(KeyRow, stored), budget=None)
    body = KeyResponse.of(key).body()
    cap = None if limit is None else Decimal(limit)
    assert (body["current_spend_usd"], body["reserved_usd"], body["remaining_usd"]) == (0, 0, cap)
    assert (body["state"], body["window"], body["minute"], body["prefix"]) == (state, None, None, "fw_new")
    assert body["secrets"] == secrets
    assert "key" not in body and KeyWithSecret.of(key, key="fw_secret").body()["key"] == "fw_secret"
    assert key_forecast(key, load_settings({})).body() == {"month_end_usd": None, "exhausted_at": None}
