"""Paths: who may ask for one, slashes too many, and what is said of one that is no route's."""

import pytest

from fusewire.http.paths import OTHER_PATHS, access_of, access_to, no_route, plain_path
from fusewire.http.route import ADMINISTRATIVE, Route
from fusewire.http.routes import ROUTES


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation_id)
def test_whoever_may_use_a_route_may_ask_for_each_of_its_paths(route: Route) -> None:
    assert {access_of(route.method, path) for path in route.paths} == {route.access}


def test_a_route_that_is_not_declared_is_for_admins() -> None:
    assert access_of("PUT", "/api/v1/models") == access_of("GET", "/api/v1/anything") == "company_admin"


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation_id)
def test_a_slash_too_many_leads_to_a_vendors_route_and_never_to_an_admins(route: Route) -> None:
    for path in route.paths:
        asked = path.replace("{id+}", "openai/gpt-4o").replace("{", "").replace("}", "")
        for written in (asked + "/", asked.replace("/v1/", "/v1//"), "/" + asked):
            assert plain_path(written) == (asked if route.is_vendors else written)
            assert access_to(route.method, OTHER_PATHS[0], written) == (route.access if route.is_vendors else "any_key")
        assert plain_path(asked) == asked
    assert not (route.is_vendors and route.access in ADMINISTRATIVE)


@pytest.mark.parametrize("path", ["/v1/completions", "/api/v1/completions", "/v1//completions/"])
def test_who_asks_for_the_legacy_completions_is_told_what_to_ask_instead(path: str) -> None:
    assert "POST /api/v1/chat/completions" in no_route("POST", path)
    assert "openapi.json" in no_route("POST", "/v1/complete")
