"""People with keys of their own in front of `make run`: who sees and changes which part, and what each is told."""

from pathlib import Path
from typing import Any

import httpx

from tests.support.guarded import ask, guarded
from tests.support.patience import PATIENCE_SECONDS
from tests.support.upstream import Upstream


def test_each_sort_of_key_reaches_its_part_by_http(tmp_path: Path, upstream: Upstream, database_url: str) -> None:
    with guarded(tmp_path, upstream, database_url) as (gateway, admin):

        def node(name: str, **fields: object) -> str:
            return str(admin.ask("POST", "/budgets", {"name": name, "limit_usd": 5} | fields)["id"])

        def me(key: str) -> dict[str, Any]:
            headers = {"x-api-key": key}
            answer = httpx.get(f"{gateway.base}/me", headers=headers, timeout=PATIENCE_SECONDS)
            row: dict[str, Any] = answer.raise_for_status().json()
            return row

        research, finance = node("research"), node("finance")
        nightly = node("nightly", parent_id=research)
        caller, other = admin.make(budget_id=nightly), admin.make(budget_id=finance)
        keys = {
            "complete": caller["key"],
            "read": admin.make(scopes=["read"])["key"],
            "read of research": admin.make(scopes=["read"], scope_budget_id=research)["key"],
            "admin of research": admin.make(scopes=["admin", "complete"], scope_budget_id=research)["key"],
        }
        for made in (caller, other):
            ask(gateway.openai(key=made["key"]))

        # By route, the statuses for these four.
        routes = {
            ("GET", "/budget"): (403, 200, 403, 403),
            ("GET", "/providers"): (403, 200, 403, 403),
            ("GET", "/providers?probe=true"): (403, 403, 403, 403),
            ("GET", "/prices"): (403, 200, 403, 403),
            ("GET", "/usage"): (403, 200, 200, 200),
            ("GET", "/calls"): (403, 200, 200, 200),
            ("GET", "/audit"): (403, 200, 200, 200),
            ("GET", f"/keys/{caller['id']}"): (403, 200, 200, 200),
            ("GET", f"/keys/{other['id']}"): (403, 200, 404, 404),
            ("GET", f"/budgets/{nightly}"): (403, 200, 200, 200),
            ("GET", f"/budgets/{finance}"): (403, 200, 404, 404),
            ("POST", f"/budgets/{research}/reset"): (403, 403, 403, 403),
            ("POST", f"/budgets/{nightly}/reset"): (403, 403, 403, 200),
            ("POST", f"/keys/{caller['id']}/reset"): (403, 403, 403, 200),
            ("POST", f"/keys/{other['id']}/reset"): (403, 403, 403, 404),
            ("POST", "/budget/reset"): (403, 403, 403, 403),
        }
        for (method, path), statuses in routes.items():
            found = tuple(admin(method, path, key=key).status_code for key in keys.values())
            assert found == statuses, (method, path)
            assert httpx.request(method, f"{gateway.base}/admin{path}").status_code == 401

        lead = keys["admin of research"]
        listed = {path: admin("GET", path, key=lead).json() for path in ("/keys", "/calls", "/usage?group_by=budget")}
        assert [row["id"] for row in listed["/keys"]["rows"]] == [caller["id"]]
        assert {row["key_id"] for row in listed["/calls"]["rows"]} == {caller["id"]}
        assert [row["budget"] for row in listed["/usage?group_by=budget"]["rows"]] == ["research / nightly"]
        intern = admin("POST", "/keys", {"name": "intern", "scopes": ["complete"]}, key=lead)
        assert (intern.status_code, intern.json()["budget_id"]) == (201, research)

        # To whom a call tells what.
        raw = gateway.openai(key=lead).chat.completions.with_raw_response.create(
            model="sota", messages=[{"role": "user", "content": "Hello"}]
        )
        assert "x-fusewire-budget-remaining-usd" not in raw.headers
        assert me(lead)["scope_budget"] == {"id": research, "name": "research"}
        assert me(keys["complete"])["current_spend_usd"] == 0, "its window was reset"
        assert me(other["key"])["current_spend_usd"] > 0
        assert not [name for name in me(other["key"]) if name in ("budget_id", "budget", "created_by", "tags")]
