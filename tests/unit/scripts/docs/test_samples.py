"""The sample of a new route's event; those that are there keep their names."""

import json
from typing import Final
from uuid import UUID

import pytest

from fusewire.http.route import Route
from scripts.docs.handlers import handled
from scripts.docs.samples import EVENTS, SAMPLES, Sample, sample_of, with_samples

HANDLED: Final = handled()
FILES: Final = {file.stem: file.read_text(encoding="utf-8") for file in EVENTS.glob("*.json")}
LIST_WINDOWS: Final = Route("GET", "/api/v1/admin/windows", "listWindows", "Windows", "admin", response="x:Y")
CLOSE_WINDOW: Final = Route(
    "POST", "/api/v1/admin/windows/{id}/close", "closeWindow", "Close", "admin", response="x:Y", body="x:Z"
)


def test_a_new_route_gets_a_sample_and_the_others_keep_their_names() -> None:
    routes = HANDLED | {"admin_budget": [*HANDLED["admin_budget"], LIST_WINDOWS]}
    found = with_samples(FILES, routes)
    assert {*found} - {*FILES} == {"admin_budget_list_windows"}
    assert {*FILES} - {*found} == {"authorizer", "migrate", "monthly_reset"}
    event = json.loads(found["admin_budget_list_windows"])
    assert (event["httpMethod"], event["resource"], event["path"]) == ("GET", LIST_WINDOWS.path, LIST_WINDOWS.path)
    assert event["body"] is event["pathParameters"] is event["queryStringParameters"] is None
    assert with_samples(FILES | found, routes) == found


def test_a_route_of_another_function_gets_a_name_of_its_own() -> None:
    (route,) = HANDLED["admin_providers"]
    found = with_samples(FILES, HANDLED | {"admin_providers": [], "health": [*HANDLED["health"], route]})
    assert "admin_providers" not in found
    assert found["health_show_providers"] == FILES["admin_providers"]


def test_body_path_and_query_are_as_api_gateway_sends_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SAMPLES, "closeWindow", Sample({"reason": "é"}, path={"id": "7"}, query={"dry": "true"}))
    event = json.loads(sample_of(CLOSE_WINDOW))
    assert event["resource"] == event["requestContext"]["resourcePath"] == CLOSE_WINDOW.path
    assert event["path"] == event["requestContext"]["path"] == "/api/v1/admin/windows/7/close"
    assert event["pathParameters"] == {"id": "7"}
    assert event["queryStringParameters"] == {"dry": "true"}
    assert event["multiValueQueryStringParameters"] == {"dry": ["true"]}
    assert json.loads(event["body"]) == {"reason": "é"}
    assert event["headers"]["Content-Type"] == "application/json"
    assert UUID(event["requestContext"]["requestId"]).version == 5


@pytest.mark.parametrize("sample", [Sample(), Sample({}), Sample(path={"id": "7"}), Sample({}, path={"other": "7"})])
def test_a_route_without_its_example_says_where_it_belongs(monkeypatch: pytest.MonkeyPatch, sample: Sample) -> None:
    monkeypatch.setitem(SAMPLES, "closeWindow", sample)
    with pytest.raises(ValueError, match=r"scripts/docs/samples\.py need the body and path of closeWindow"):
        sample_of(CLOSE_WINDOW)


def test_every_example_is_of_a_route() -> None:
    assert {*SAMPLES} <= {route.operation_id for routes in HANDLED.values() for route in routes}
