"""What a new route adds to infra/template.yaml, and what is put right there; the rest stays."""

from typing import Any, Final

import pytest

from fusewire.http.route import Route
from local.cloudformation import Ref, load
from scripts.docs import documents
from scripts.docs.api_events import with_events
from scripts.docs.handlers import handled

TEMPLATE: Final = documents._TEMPLATE.read_text(encoding="utf-8")
HANDLED: Final = handled()
SHOW_WINDOW: Final = Route("GET", "/api/v1/admin/windows/{id}", "showWindow", "A window", "admin", response="x:Y")


def events(template: str, function: str) -> dict[str, Any]:
    result: dict[str, Any] = load(template)["Resources"][function]["Properties"]["Events"]
    return result


def with_more(function: str, *routes: Route) -> dict[str, list[Route]]:
    return HANDLED | {function: [*HANDLED[function], *routes]}


def test_a_new_route_gets_an_event_and_everything_else_stays() -> None:
    result = with_events(TEMPLATE, with_more("admin_budget", SHOW_WINDOW))
    before, after = load(TEMPLATE), load(result)
    new = after["Resources"]["AdminBudgetFunction"]["Properties"]["Events"].pop("ShowWindow")
    properties = {"RestApiId": Ref("Api"), "Method": "GET", "Path": "/api/v1/admin/windows/{id}"}
    assert new == {"Type": "Api", "Properties": properties}
    assert after == before
    assert with_events(result, with_more("admin_budget", SHOW_WINDOW)) == result
    assert with_events(result, HANDLED) == TEMPLATE, "a route that is gone"


def test_what_is_missing_or_wrong_is_put_right() -> None:
    _, _, health = TEMPLATE.partition("  HealthFunction:\n")
    block = health[health.index("      Events:\n") : health.index("\n  MonthlyResetFunction:\n")]
    assert block.count("Authorizer: NONE") == 2
    assert TEMPLATE.count(block) == 1
    without = with_events(TEMPLATE.replace(block, ""), HANDLED)
    named_anew = {"Health": "Health", "OpenApi": "Openapi"}  # as the operations are
    assert events(without, "HealthFunction") == {
        named_anew[name]: event for name, event in events(TEMPLATE, "HealthFunction").items()
    }
    for wrong in (
        TEMPLATE.replace("            Auth: {Authorizer: NONE}\n", ""),
        TEMPLATE.replace("            ResponseTransferMode: RESPONSE_STREAM\n", "", 1),
        TEMPLATE.replace("            TimeoutInMillis: 900000\n", "            TimeoutInMillis: 29000\n", 1),
    ):
        assert wrong != TEMPLATE
        assert with_events(wrong, HANDLED) == TEMPLATE


def test_a_vendors_route_of_a_function_that_streams_is_at_both_paths_and_streams() -> None:
    route = Route("POST", "/api/v1/x", "makeX", "X", "complete", response="x:Y", is_vendors=True)
    found = events(with_events(TEMPLATE, with_more("complete", route)), "CompleteFunction")
    assert found["MakeX"]["Properties"]["Path"] == "/api/v1/x"
    assert found["MakeXAtV1"]["Properties"] == {
        "RestApiId": Ref("Api"),
        "Method": "POST",
        "Path": "/v1/x",
        "ResponseTransferMode": "RESPONSE_STREAM",
        "TimeoutInMillis": 900_000,
    }
    assert [*found][-2:] == ["OtherPaths", "OtherPathsAtV1"], "what is no route's stays"


def test_a_functions_only_route_may_be_gone() -> None:
    found = load(with_events(TEMPLATE, HANDLED | {"admin_providers": []}))["Resources"]["AdminProvidersFunction"]
    assert found["Properties"].keys() == load(TEMPLATE)["Resources"]["AdminProvidersFunction"]["Properties"].keys() - {
        "Events"
    }


def test_two_events_of_one_name_are_refused() -> None:
    route = SHOW_WINDOW._replace(operation_id="show")
    with pytest.raises(ValueError, match="functions/admin_budget have one name"):
        with_events(TEMPLATE, with_more("admin_budget", route))


def test_a_function_that_streams_needs_its_own_timeout() -> None:
    with pytest.raises(ValueError, match="functions/embed streams"):
        with_events(TEMPLATE, with_more("embed", SHOW_WINDOW._replace(also="text/event-stream")))
