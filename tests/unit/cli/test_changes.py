"""An audit entry in a line: what it is about, and only what it changed."""

from decimal import Decimal
from typing import Any

import pytest

from cli.changes import about, changed

KEY: dict[str, Any] = {"id": "key_1", "name": "search", "monthly_budget_usd": None, "tags": {}, "scopes": ["complete"]}
WINDOW: dict[str, Any] = {"id": 2, "budget": "global", "spent": Decimal("0.50")}


@pytest.mark.parametrize(
    ("before", "after", "whose", "what"),
    [
        (None, KEY, "key_1", "id: key_1; name: search; scopes: complete"),
        (KEY, KEY | {"monthly_budget_usd": 80}, "key_1", "monthly_budget_usd: - > 80"),
        (KEY, KEY | {"name": "a; b", "tags": {"x": "y"}}, "key_1", "name: search > a; b; tags: - > x=y"),
        (
            WINDOW,
            WINDOW | {"id": 3, "spent": 0, "why": "admin"},
            "global",
            "id: 2 > 3; spent: 0.50 > 0; why: - > admin",
        ),
        (None, {"method": "GET", "path": "/x", "why": "no"}, "/x", "method: GET; path: /x; why: no"),
        ({"AI_MODE": "local"}, {"AI_MODE": "cloud"}, None, "AI_MODE: local > cloud"),
        ({"gone": 1}, None, None, "gone: 1 > -"),
        (None, None, None, ""),
    ],
)
def test_an_entry_in_a_line(before: Any, after: Any, whose: str | None, what: str) -> None:  # noqa: ANN401 - JSON
    entry = {"before": before, "after": after}
    assert (about(entry), changed(entry)) == (whose, what)
