"""Scopes that are bound to a budget of the tree: its holder sees and changes that subtree, and nothing beside it."""

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import pytest

from fusewire.http.identity import Identity
from tests.integration.ai.observing import Books
from tests.integration.functions.conftest import Functions, as_caller, make_key, sample
from tests.integration.functions.test_handlers import function_of, read

ADMIN: Final = Identity("key_of_an_admin", frozenset({"admin"}))
IN_PATH: Final = {"key": "key_019ab2f40c5a7d4e9f3b2c1d0e8f7a6b", "budget": "bud_019ab2f40c5a7d4e9f3b2c1d0e8f7a6b"}

Ask = Callable[..., dict[str, Any]]


class Tree:
    """Engineering with Search below it, beside Finance, each with a key; and a lead whose scopes are Engineering's."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions
        self.engineering = self.node("Engineering")
        self.search = self.node("Search", parent_id=self.engineering)
        self.finance = self.node("Finance")
        self.keys = {
            name: self.key(name, budget_id=node)
            for name, node in (
                ("engineer", self.engineering),
                ("searcher", self.search),
                ("accountant", self.finance),
                ("nobody's", None),
            )
        }
        self.lead = Identity("key_lead", frozenset({"admin"}), scope_budget_id=self.engineering)
        self.reader = Identity("key_reader", frozenset({"read"}), scope_budget_id=self.engineering)

    def ask(self, name: str, id: str = "", body: object = None, caller: Identity = ADMIN, **fields: Any) -> Any:  # noqa: ANN401 - JSON
        """The status and the body of a sample's route, of another id."""
        text = json.dumps(sample(name, body, **fields))
        for known in sample(name)["pathParameters"] or {}:
            text = text.replace(sample(name)["pathParameters"][known], id)
        answer = self._functions(function_of(name), as_caller(caller, json.loads(text)))
        return answer["statusCode"], read(answer) if answer["body"].startswith("{") else answer["body"]

    def node(self, name: str, **fields: object) -> str:
        status, row = self.ask("admin_budgets_create", body={"name": name} | fields)
        assert status == 201, row
        return str(row["id"])

    def key(self, name: str, **fields: object) -> str:
        status, row = self.ask("admin_keys_create", body={"name": name, "scopes": ["complete"]} | fields)
        assert status == 201, row
        return str(row["id"])

    def call(self, name: str) -> Decimal:
        """A chat of this key, in a request of its name; what it cost."""
        caller = Identity(self.keys[name], frozenset({"complete"}))
        event = as_caller(caller, sample("complete"))
        event["requestContext"]["requestId"] = f"call-of-{name}"
        cost: Decimal = read(self._functions("complete", event))["usage"]["cost"]
        return cost


@pytest.fixture
def tree(functions: Functions) -> Tree:
    functions.set(AUTH_MODE="keys")
    return Tree(functions)


def names(rows: Any) -> set[str]:  # noqa: ANN401 - JSON
    return {row["name"] for row in rows["rows"]}


def test_lists_hold_the_subtree_alone(tree: Tree) -> None:
    for caller in (tree.lead, tree.reader):
        nodes, keys = (tree.ask(name, caller=caller)[1] for name in ("admin_budgets", "admin_keys"))
        assert names(nodes) == {"Engineering", "Search"}
        assert names(keys) == {"engineer", "searcher"}
        found = tree.ask("admin_keys", caller=caller, queryStringParameters={"search": "key_"})[1]
        assert names(found) == {"engineer", "searcher"}
    assert names(tree.ask("admin_keys")[1]) == {"engineer", "searcher", "accountant", "nobody's"}
    [own] = [row for row in nodes["rows"] if row["name"] == "Engineering"]
    assert own["parent_id"] is None


@pytest.mark.parametrize("size", [1, 2])
def test_pages_of_the_subtree_end_where_it_ends(tree: Tree, size: int) -> None:
    for name in ("admin_budgets", "admin_keys"):
        seen, cursor = [], None
        for _ in range(5):
            query = {"limit": str(size)} | ({"cursor": cursor} if cursor else {})
            page = tree.ask(name, caller=tree.reader, queryStringParameters=query)[1]
            seen += [row["id"] for row in page["rows"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert len(seen) == len(set(seen)) == 2


OF_A_KEY: Final = ("admin_keys_show", "admin_keys_update", "admin_keys_rotate", "admin_keys_reset", "admin_keys_revoke")
OF_A_NODE: Final = (
    "admin_budgets_show", "admin_budgets_update", "admin_budgets_reset",
    "admin_budgets_delete",
)  # fmt: skip


@pytest.mark.parametrize("name", [*OF_A_KEY, *OF_A_NODE])
def test_what_is_outside_looks_as_if_it_were_not_there(tree: Tree, name: str, books: Books) -> None:
    ids = [tree.keys["accountant"], tree.keys["nobody's"]] if name in OF_A_KEY else [tree.finance]
    missing = IN_PATH["key" if name in OF_A_KEY else "budget"]
    before = books.query("SELECT n FROM audit_head")
    body = {"name": "new"} if "update" in name else None
    nowhere = tree.ask(name, missing, body, caller=tree.lead)
    assert nowhere[0] == 404
    for id in ids:
        assert tree.ask(name, id, body, caller=tree.lead) == nowhere
    assert books.query("SELECT n FROM audit_head") == before
    assert books.query("SELECT FROM budget_window WHERE closed_at IS NOT NULL") == []


@pytest.mark.parametrize("name", [*OF_A_KEY, *OF_A_NODE])
def test_what_is_inside_is_shown_and_changed(tree: Tree, name: str) -> None:
    if name == "admin_budgets_delete":
        tree.ask("admin_keys_revoke", tree.keys["searcher"])
    id = tree.keys["searcher"] if name in OF_A_KEY else tree.search
    body = {"name": "new"} if "update" in name else None
    status, row = tree.ask(name, id, body, caller=tree.lead)
    assert status == 200, row
    status, _ = tree.ask(name, id, body, caller=tree.reader)
    assert status == (403 if "show" not in name else 200)


@pytest.mark.parametrize("name", OF_A_NODE)
def test_ones_own_node_is_changed_by_whoever_is_above_it(tree: Tree, name: str) -> None:
    body = {"limit_usd": 10**6} if "update" in name else None
    status, row = tree.ask(name, tree.engineering, body, caller=tree.lead)
    assert status == (200 if "show" in name else 403), row
    assert tree.ask("admin_budgets_show", tree.engineering)[1]["limit_usd"] is None


@pytest.mark.parametrize(
    ("changes", "status", "param"),
    [
        ({"budget_id": "finance"}, 400, "budget_id"),
        ({"budget_id": IN_PATH["budget"]}, 400, "budget_id"),
        ({"budget_id": None}, 403, None),
        ({"budget_id": "engineering"}, 200, None),
        ({"scopes": ["admin"]}, 403, None),
        ({"scopes": ["read", "complete"]}, 403, None),
        ({"scopes": ["admin"], "scope_budget_id": "finance"}, 400, "scope_budget_id"),
        ({"scopes": ["admin"], "scope_budget_id": "engineering"}, 200, None),
        ({"scopes": ["read"], "scope_budget_id": "search"}, 200, None),
        ({"scope_budget_id": "search"}, 400, "scope_budget_id"),
        ({"monthly_budget_usd": 7}, 200, None),
    ],
)
def test_a_key_stays_inside_and_gets_no_more_than_the_holder_has(
    tree: Tree, changes: dict[str, Any], status: int, param: str | None, books: Books
) -> None:
    sent = {name: getattr(tree, str(value), value) for name, value in changes.items()}
    before = books.query("SELECT * FROM api_key ORDER BY id")
    found, row = tree.ask("admin_keys_update", tree.keys["searcher"], sent, caller=tree.lead)
    assert (found, row.get("error", {}).get("param")) == (status, param), row
    if status == 200:
        assert {name: row[name] for name in sent} == sent
    else:
        assert books.query("SELECT * FROM api_key ORDER BY id") == before


def test_a_new_key_is_the_callers_unless_it_says_where(tree: Tree) -> None:
    made = [
        tree.ask("admin_keys_create", body={"name": "new", "scopes": scopes} | more, caller=tree.lead)
        for scopes, more in (
            (["complete"], {}),
            (["complete"], {"budget_id": tree.search}),
            (["read"], {}),
            (["admin", "complete"], {"scope_budget_id": tree.search}),
            (["complete"], {"budget_id": tree.finance}),
            (["admin"], {"scope_budget_id": tree.finance}),
        )
    ]
    assert [status for status, _ in made] == [201, 201, 201, 201, 400, 400]
    assert [(row["budget_id"], row["scope_budget_id"]) for status, row in made if status == 201] == [
        (tree.engineering, None),
        (tree.search, None),
        (tree.engineering, tree.engineering),
        (tree.engineering, tree.search),
    ]
    assert [row["error"]["param"] for status, row in made if status == 400] == ["budget_id", "scope_budget_id"]
    assert tree.ask("admin_keys_create", body={"name": "x", "scopes": ["complete"]}, caller=tree.reader)[0] == 403


@pytest.mark.parametrize("name", ["admin_keys_update", "admin_keys_rotate", "admin_keys_revoke"])
def test_a_key_with_more_scope_that_is_under_the_node_is_out_of_reach(tree: Tree, name: str) -> None:
    """Whoever rotates a key has its secret: the company's reader under a team's budget would be the team's."""
    for fields in ({"scopes": ["read"]}, {"scopes": ["admin"], "scope_budget_id": tree.finance}):
        id = tree.key("more", budget_id=tree.search, **fields)
        assert tree.ask("admin_keys_show", id, caller=tree.lead)[0] == 200
        status, row = tree.ask(name, id, {"name": "new"} if "update" in name else None, caller=tree.lead)
        assert (status, row.get("error", {}).get("code")) == (403, "permission_denied")
        assert "fw_" not in json.dumps(row)


@pytest.mark.parametrize(("parent", "status"), [("finance", 400), (None, 403), ("search", 400), ("engineering", 200)])
def test_a_node_stays_inside(tree: Tree, parent: str | None, status: int) -> None:
    node = getattr(tree, parent) if parent else None
    assert tree.ask("admin_budgets_update", tree.search, {"parent_id": node}, caller=tree.lead)[0] == status


def test_a_new_node_is_below_the_callers(tree: Tree) -> None:
    body = {"name": "Ranking"}
    status, row = tree.ask("admin_budgets_create", body=body, caller=tree.lead)
    assert (status, row["parent_id"]) == (201, tree.engineering)
    for parent in (tree.finance, IN_PATH["budget"]):
        status, row = tree.ask("admin_budgets_create", body=body | {"parent_id": parent}, caller=tree.lead)
        assert (status, row["error"]["param"]) == (400, "parent_id")
    status, row = tree.ask("admin_budgets_create", body=body | {"parent_id": tree.search}, caller=tree.lead)
    assert (status, row["parent_id"]) == (201, tree.search)


def test_usage_is_the_subtrees_and_its_path_begins_at_the_callers_node(tree: Tree) -> None:
    costs = {name: tree.call(name) for name in tree.keys}
    both = costs["engineer"] + costs["searcher"]
    query = {"group_by": "budget,key"}
    status, report = tree.ask("admin_usage", caller=tree.reader, queryStringParameters=query)
    assert (status, report["total"]["cost_usd"]) == (200, both)
    inner = tree.ask("admin_usage", caller=Identity("k", frozenset({"read"}), scope_budget_id=tree.search),
                     queryStringParameters=query)[1]  # fmt: skip
    assert [(row["budget"], row["budget_id"], row["key"]) for row in inner["rows"]] == [
        ("Search", tree.search, tree.keys["searcher"])
    ]
    company = tree.ask("admin_usage", queryStringParameters={"group_by": "budget"})[1]
    assert [(row["budget"], row["budget_id"], row["cost_usd"]) for row in company["rows"]] == [
        (None, None, costs["nobody's"]),
        ("Engineering", tree.engineering, costs["engineer"]),
        ("Engineering / Search", tree.search, costs["searcher"]),
        ("Finance", tree.finance, costs["accountant"]),
    ]
    part = tree.ask("admin_usage", queryStringParameters={"budget": tree.engineering, "group_by": "key"})[1]
    assert part["total"]["cost_usd"] == both
    assert {row["key"] for row in part["rows"]} == {tree.keys["engineer"], tree.keys["searcher"]}
    outside = {"budget": tree.finance, "group_by": "key"}
    assert tree.ask("admin_usage", caller=tree.reader, queryStringParameters=outside)[1]["rows"] == []


def test_a_months_report_of_a_part_tells_no_window_of_the_company(tree: Tree) -> None:
    cost = tree.call("searcher")
    tree.call("accountant")
    month = tree.ask("admin_budget")[1]["window"]["opened_at"][:7]
    query = {"month": month, "group_by": "key"}
    part = tree.ask("admin_usage", caller=tree.reader, queryStringParameters=query)[1]
    assert (part["windows"], part["total"]["cost_usd"]) == ([], cost)
    assert len(tree.ask("admin_usage", queryStringParameters=query)[1]["windows"]) == 1


def test_usage_pages_and_files_have_both_columns(tree: Tree) -> None:
    for name in tree.keys:
        tree.call(name)
    seen, cursor = [], None
    while True:
        query = {"group_by": "budget", "limit": "1"} | ({"cursor": cursor} if cursor else {})
        page = tree.ask("admin_usage", queryStringParameters=query)[1]
        seen += [row["budget"] for row in page["rows"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [None, "Engineering", "Engineering / Search", "Finance"]
    event = sample("admin_usage", queryStringParameters={"group_by": "budget"})
    status, text = tree.ask("admin_usage", queryStringParameters={"group_by": "budget"},
                            headers=event["headers"] | {"Accept": "text/csv"})  # fmt: skip
    lines = text.splitlines()
    assert status == 200
    assert lines[0] == "budget,budget_id,cost_usd,requests,input_tokens,output_tokens"
    assert lines[3].startswith(f"Engineering / Search,{tree.search},")


def calls(tree: Tree, caller: Identity) -> list[str]:
    """The names of the keys whose attempts are listed, the oldest first, in pages of one."""
    by_id, seen, cursor = {id: name for name, id in tree.keys.items()}, [], None
    while True:
        query = {"limit": "1"} | ({"cursor": cursor} if cursor else {})
        page = tree.ask("admin_usage_calls", caller=caller, queryStringParameters=query)[1]
        seen += [by_id[row["key_id"]] for row in page["rows"]]
        cursor = page["next_cursor"]
        if cursor is None:
            return seen[::-1]


def test_attempts_are_where_they_were_booked_whatever_has_moved(tree: Tree) -> None:
    for name in tree.keys:
        tree.call(name)
    assert calls(tree, tree.reader) == ["engineer", "searcher"]
    assert calls(tree, ADMIN) == list(tree.keys)
    tree.ask("admin_keys_update", tree.keys["searcher"], {"budget_id": tree.finance})
    tree.ask("admin_keys_update", tree.keys["accountant"], {"budget_id": tree.search})
    tree.call("searcher")
    assert calls(tree, tree.reader) == ["engineer", "searcher"]
    tree.call("accountant")
    assert calls(tree, tree.reader) == ["engineer", "searcher", "accountant"]
    accountants = Identity("key_of_finance", frozenset({"read"}), scope_budget_id=tree.finance)
    assert calls(tree, accountants) == ["accountant", "searcher"]


def test_a_call_that_was_booked_outside_is_not_there(tree: Tree) -> None:
    costs = {name: tree.call(name) for name in tree.keys}
    nowhere = tree.ask("admin_usage_call", "no-such-call", caller=tree.reader)
    assert nowhere[0] == 404
    for name, cost in costs.items():
        found = tree.ask("admin_usage_call", f"call-of-{name}", caller=tree.reader)
        if name in ("engineer", "searcher"):
            assert (found[0], found[1]["cost_usd"]) == (200, cost)
        else:
            assert found == nowhere
        one = {"request_id": f"call-of-{name}"}
        listed = tree.ask("admin_usage_calls", caller=tree.reader, queryStringParameters=one)[1]["rows"]
        assert bool(listed) is (found[0] == 200)


def test_refused_calls_are_the_subtrees(tree: Tree) -> None:
    for name in tree.keys:
        caller = Identity(tree.keys[name], frozenset({"complete"}))
        assert tree.ask("complete", body={"model": "sota", "messages": []}, caller=caller)[0] == 400
    page = tree.ask("admin_usage_calls", caller=tree.reader, queryStringParameters={"status": "refused"})[1]
    assert {row["key_id"] for row in page["refused"]} == {tree.keys["engineer"], tree.keys["searcher"]}


def test_audit_entries_are_the_subtrees(tree: Tree) -> None:
    tree.ask("admin_budget_reset")
    tree.ask("admin_keys_reset", tree.keys["searcher"], caller=tree.lead)
    tree.ask("admin_keys_update", tree.keys["accountant"], {"budget_id": tree.search})
    tree.ask("admin_keys_update", tree.keys["engineer"], {"name": "renamed"}, caller=tree.lead)
    tree.ask("admin_budgets_reset", tree.finance)
    rows = tree.ask("admin_usage_audit", caller=tree.reader, queryStringParameters=None)[1]["rows"]
    about = [(row["action"], row["after"].get("name") or row["after"].get("budget")) for row in reversed(rows)]
    assert about == [
        ("budget.created", "Engineering"),
        ("budget.created", "Search"),
        ("key.created", "engineer"),
        ("key.created", "searcher"),
        ("budget.reset", tree.keys["searcher"]),
        ("key.updated", "renamed"),
    ]


def test_nothing_is_within_a_node_that_was_deleted(tree: Tree, database_url: str) -> None:
    status, row = tree.ask("admin_keys_create", body={"name": "lead of search", "scopes": ["admin"],
                                                      "scope_budget_id": tree.search})  # fmt: skip
    assert status == 201, row
    tree.ask("admin_keys_revoke", tree.keys["searcher"])
    assert tree.ask("admin_budgets_delete", tree.search)[0] == 200
    gone = Identity(row["id"], frozenset({"admin"}), scope_budget_id=tree.search)
    assert names(tree.ask("admin_keys", caller=gone)[1]) == set()
    assert names(tree.ask("admin_budgets", caller=gone)[1]) == set()
    assert tree.ask("admin_keys_show", tree.keys["nobody's"], caller=gone)[0] == 404
    assert tree.ask("admin_keys_create", body={"name": "x", "scopes": ["complete"]}, caller=gone)[0] in (400, 403)
    assert tree.ask("admin_budgets_create", body={"name": "x"}, caller=gone)[0] == 400


def test_me_names_the_budget_that_the_scopes_are_bound_to(tree: Tree) -> None:
    id = tree.key("lead", scopes=["admin"], scope_budget_id=tree.engineering, per_user_limit_usd=2, period="week")
    row = tree.ask("models_me", caller=Identity(id, frozenset({"admin"}), scope_budget_id=tree.engineering))[1]
    assert row["scope_budget"] == {"id": tree.engineering, "name": "Engineering"}
    assert (row["per_user_limit_usd"], row["period"]) == (2, "week")


def test_code_of_before_is_told_no_bound_scope(tree: Tree, database_url: str, books: Books) -> None:
    make_key(database_url, id="key_bound", scopes=["complete", "admin"], scope_budget_id=tree.engineering)
    asked = "SELECT key_authenticate(jsonb_build_object('hash', encode(hash, 'hex')) || %s) AS row FROM api_key_secret"
    for more, scopes in (("{}", ["complete"]), ('{"knows_bound": true}', ["complete", "admin"])):
        [found] = books.query(f"{asked.replace('%s', repr(more))} WHERE key_id = 'key_bound'")
        assert found["row"]["scopes"] == scopes
