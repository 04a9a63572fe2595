"""The routes: what each names is there, its handler has its signature, and its path says who may call."""

import ast
from pathlib import Path

import pytest

from fusewire.http.route import ADMINISTRATIVE, Route, named
from fusewire.http.routes import COUNT_TOKENS, DELETE_RESPONSE, ROUTES, SHOW_RESPONSE
from scripts.docs.handlers import handlers

FUNCTIONS = Path(__file__).parents[3] / "functions"
HANDLERS = [pair for file in sorted(FUNCTIONS.glob("*/app.py")) for pair in handlers(file)]


def test_every_route_is_declared_and_handled_once() -> None:
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)
    assert sorted(route.operation_id for route, _ in HANDLERS) == sorted(route.operation_id for route in ROUTES)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation_id)
def test_what_a_route_names_is_there(route: Route) -> None:
    for reference in (route.response, route.body, route.query, route.unavailable, route.render_error):
        assert not reference or named(reference)


@pytest.mark.parametrize(("route", "handler"), HANDLERS, ids=lambda each: getattr(each, "operation_id", ""))
def test_a_handlers_signature_is_its_routes(route: Route, handler: ast.FunctionDef) -> None:
    parameters = {
        each.arg: ast.unparse(each.annotation).strip("'").rpartition(".")[2]
        for each in handler.args.args
        if each.annotation
    }
    models = {"body": route.body, "query": route.query}
    wanted = {name: reference.rpartition(":")[2] for name, reference in models.items() if reference}
    in_path = {part.strip("{+}"): "str" for part in route.path.split("/") if part.startswith("{")}
    assert parameters == {"request": "Request"} | in_path | wanted
    assert handler.returns is not None
    returned = {each.strip().rpartition(".")[2] for each in ast.unparse(handler.returns).strip("'").split("|")}
    # A `Response` where there is more to say: headers, another status, CSV, a stream.
    assert returned - {"Response[Any]"} <= {route.response.rpartition(":")[2]}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation_id)
def test_the_path_says_who_may_call(route: Route) -> None:
    assert route.path.startswith("/api/v1/admin/") is (route.access in ADMINISTRATIVE)
    assert (route.access in ("read", "company_read")) is (route.access in ADMINISTRATIVE and route.method == "GET")
    assert route.makes_calls is (
        route.access == "complete" and route not in (COUNT_TOKENS, SHOW_RESPONSE, DELETE_RESPONSE)
    )
