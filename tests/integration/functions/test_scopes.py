"""Every admin route for every sort of key: through the authorizer, and through its function."""

from typing import Final

import psycopg
import pytest

from fusewire.http.authorizer import UnauthorizedError
from fusewire.http.identity import Identity
from fusewire.http.route import ADMINISTRATIVE
from fusewire.http.routes import ROUTES
from tests.integration.functions.conftest import Functions, as_caller, make_key, sample
from tests.integration.functions.test_authorizer import asking, effect, identity
from tests.integration.functions.test_handlers import REST, function_of, read
from tests.support.upstream import Upstream

HOLDERS: Final = {
    "complete": frozenset({"complete"}),
    "read": frozenset({"read"}),
    "read of a budget": frozenset({"read"}),
    "admin": frozenset({"admin"}),
    "admin of a budget": frozenset({"admin"}),
}
"""By what the key has. No key has no column: it gets a 401 everywhere."""
# "-": 403. "all": the whole company. "part": the part of the tree that it is bound to.
_READ = ("-", "all", "part", "all", "part")
_CHANGE = ("-", "-", "-", "all", "part")
_READ_OF_THE_COMPANY = ("-", "all", "-", "all", "-")
_CHANGE_OF_THE_COMPANY = ("-", "-", "-", "all", "-")
TABLE: Final = {
    "showBudget": _READ_OF_THE_COMPANY,
    "setBudgetLimit": _CHANGE_OF_THE_COMPANY,
    "resetBudget": _CHANGE_OF_THE_COMPANY,
    "listAdjustments": _READ_OF_THE_COMPANY,
    "adjustBudget": _CHANGE_OF_THE_COMPANY,
    "listBudgets": _READ,
    "createBudget": _CHANGE,
    "showBudgetNode": _READ,
    "updateBudget": _CHANGE,
    "deleteBudget": _CHANGE,
    "resetBudgetNode": _CHANGE,
    "showProviders": _READ_OF_THE_COMPANY,
    "showUsage": _READ,
    "listCalls": _READ,
    "showCall": _READ,
    "listAudit": _READ,
    "listPrices": _READ_OF_THE_COMPANY,
    "addPrice": _CHANGE_OF_THE_COMPANY,
    "applyPrice": _CHANGE_OF_THE_COMPANY,
    "removePrice": _CHANGE_OF_THE_COMPANY,
    "listAllowances": _READ_OF_THE_COMPANY,
    "removeAllowance": _CHANGE_OF_THE_COMPANY,
    "listKeys": _READ,
    "createKey": _CHANGE,
    "showKey": _READ,
    "updateKey": _CHANGE,
    "revokeKey": _CHANGE,
    "rotateKey": _CHANGE,
    "resetKey": _CHANGE,
}
"""Written down a second time, and by people: what is declared of the routes is held against it."""
NAMES: Final = {
    route.operation_id: name
    for route in ROUTES
    for name in REST
    if (sample(name)["httpMethod"], sample(name)["resource"]) == (route.method, route.path)
}
NODE: Final = "bud_019ab2f40c5a7d4e9f3b2c1d0e8f7a6c"
NO_PROBE: Final = {"queryStringParameters": None, "multiValueQueryStringParameters": None}


@pytest.fixture
def with_keys(functions: Functions) -> Functions:
    functions.set(AUTH_MODE="keys")
    return functions


def make_node(database_url: str, id: str) -> None:
    with psycopg.connect(database_url) as connection:
        statement = (
            "INSERT INTO budget_node (id, name, period, created_at, created_by) VALUES (%s, 'n', 'month', now(), 'k')"
        )
        connection.execute(statement, (id,))


def test_every_admin_route_is_in_the_table() -> None:
    assert TABLE.keys() == {route.operation_id for route in ROUTES if route.access in ADMINISTRATIVE}


@pytest.mark.parametrize("operation", TABLE)
def test_what_a_route_is_for_each_sort_of_key(with_keys: Functions, database_url: str, operation: str) -> None:
    name = NAMES[operation]
    with pytest.raises(UnauthorizedError):
        with_keys("authorizer", asking(None, name))
    for (holder, scopes), allowed in zip(HOLDERS.items(), TABLE[operation], strict=True):
        bound = NODE if holder.endswith("budget") else None
        caller = Identity(f"key_{holder.replace(' ', '_')}", scopes, scope_budget_id=bound)
        answer = with_keys(function_of(name), as_caller(caller, sample(name) | NO_PROBE))
        refused = (answer["statusCode"], read(answer).get("error", {}).get("code")) == (403, "permission_denied")
        assert refused is (allowed == "-"), (holder, answer["body"])
        assert answer["statusCode"] < 500


@pytest.mark.parametrize("operation", TABLE)
def test_the_authorizer_says_the_same(with_keys: Functions, database_url: str, operation: str) -> None:
    make_node(database_url, NODE)
    for number, ((holder, scopes), allowed) in enumerate(zip(HOLDERS.items(), TABLE[operation], strict=True)):
        bound = NODE if holder.endswith("budget") else None
        make_key(database_url, id=f"key_{number}", scopes=list(scopes), scope_budget_id=bound)
        policy = with_keys("authorizer", asking(f"fw_key_{number}", NAMES[operation]))
        assert effect(policy) == ("Deny" if allowed == "-" else "Allow"), holder
        assert identity(policy) == Identity(f"key_{number}", scopes, scope_budget_id=bound)


def test_a_probe_spends_so_it_is_no_reading(with_keys: Functions, upstream: Upstream) -> None:
    reader, admin = (Identity("key_a", HOLDERS[scope]) for scope in ("read", "admin"))
    probing = {"queryStringParameters": {"probe": "true"}, "multiValueQueryStringParameters": None}
    for caller, status in ((reader, 403), (admin, 200)):
        assert (
            with_keys("admin_providers", as_caller(caller, sample("admin_providers", **probing)))["statusCode"]
            == status
        )
        assert bool(upstream.requests) is (status == 200)


def test_a_reader_learns_from_calls_what_any_caller_learns(with_keys: Functions, database_url: str) -> None:
    make_key(database_url, scopes=["complete", "read"])
    caller = Identity("key_team", frozenset({"complete", "read"}))
    answer = with_keys("complete", as_caller(caller, sample("complete")))
    assert answer["statusCode"] == 200
    assert "x-fusewire-budget-remaining-usd" not in answer["headers"]
