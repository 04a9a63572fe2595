"""Who spent what, one call's story, who did what: the admin_usage function over HTTP."""

import csv
import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from fusewire.http.admin import usage as usage_module
from fusewire.http.identity import Identity
from tests.integration.ai.observing import price_of
from tests.integration.functions.conftest import Functions, as_caller, make_key, sample
from tests.integration.functions.test_handlers import read
from tests.support.upstream import Upstream, status

CSV = {"Accept": "text/csv, application/json;q=0.5"}


def ask(functions: Functions, name: str = "admin_usage", **query: str) -> dict[str, Any]:
    return functions("admin_usage", sample(name, queryStringParameters=query or None))


def test_usage_is_told_by_groups_with_a_total(functions: Functions, upstream: Upstream) -> None:
    functions("complete", sample("complete"))
    functions("complete", sample("complete"))
    functions("embed", sample("embed"))
    chat, again, vectors = (price_of("azure", *bill) for bill in upstream.billed)
    today = datetime.now(UTC).date().isoformat()

    row = read(ask(functions, group_by="day,model,tier,key,tag:team"))

    none = {"day": today, "key": None, "tag:team": None}
    (first, second), total = row["rows"], row["total"]
    assert first | none | {"model": "first", "tier": "sota", "cost_usd": chat + again, "requests": 2} == first
    assert second | none | {"model": "first-embedding", "tier": "sota", "cost_usd": vectors, "requests": 1} == second
    assert total["cost_usd"] == chat + again + vectors
    assert total["input_tokens"] == sum(prompt for prompt, _ in upstream.billed)
    assert total["output_tokens"] == sum(completion for _, completion in upstream.billed)
    assert (row["next_cursor"], row["from"], row["to"]) == (None, today[:8] + "01", None)
    assert read(ask(functions))["rows"][0] == {"day": today} | total


def test_usage_is_told_of_one_provider_or_model(functions: Functions, upstream: Upstream, database_url: str) -> None:
    make_key(database_url)
    caller = Identity("key_team", frozenset({"complete"}))
    functions("complete", as_caller(caller, sample("complete")))
    functions("embed", sample("embed"))
    chat, vectors = (price_of("azure", *bill) for bill in upstream.billed)
    month = datetime.now(UTC).strftime("%Y-%m")

    for filters, cost in (
        ({"provider": "azure"}, chat + vectors),
        ({"provider": "azure", "model": "first"}, chat),
        ({"model": "first-embedding"}, vectors),
        ({"model": "First"}, 0),
        ({"provider": "openai", "model": "first"}, 0),
    ):
        of_days = read(ask(functions, group_by="key,model", **filters))
        of_month = read(ask(functions, group_by="key,model", month=month, **filters))
        assert of_days["total"]["cost_usd"] == of_month["total"]["cost_usd"] == cost
        assert of_days["rows"] == of_month["rows"]
        assert of_month["windows"] == []  # what was spent in them isn't this total
        query = {"group_by": "key,model", **filters}
        body = functions("admin_usage", sample("admin_usage", queryStringParameters=query, headers=CSV))["body"]
        rows = list(csv.DictReader(io.StringIO(body)))
        assert sum((Decimal(row["cost_usd"]) for row in rows), Decimal(0)) == cost
        assert [(row["key"], row["key_name"]) for row in rows if row["model"] == "first"] == (
            [("key_team", "team")] if cost in (chat, chat + vectors) else []
        )


def test_the_dearest_come_first_whatever_their_names(functions: Functions, upstream: Upstream) -> None:
    functions("embed", sample("embed"))
    functions("complete", sample("complete"))
    by_name = read(ask(functions, group_by="model"))
    dearest = sorted(by_name["rows"], key=lambda row: row["cost_usd"], reverse=True)
    assert read(ask(functions, group_by="model", sort="cost"))["rows"] == dearest
    cheapest_named_first = read(ask(functions, group_by="tier,model", sort="cost", limit="1"))
    assert cheapest_named_first["rows"][0]["cost_usd"] == dearest[0]["cost_usd"] > dearest[1]["cost_usd"]
    assert (cheapest_named_first["next_cursor"], cheapest_named_first["total"]) == (None, by_name["total"])
    first = read(ask(functions, group_by="model", limit="1"))
    refused = ask(functions, group_by="model", sort="cost", cursor=first["next_cursor"])
    assert refused["statusCode"] == 400


def test_pages_follow_their_cursor(functions: Functions) -> None:
    functions("complete", sample("complete"))
    functions("embed", sample("embed"))
    first = read(ask(functions, group_by="model", limit="1"))
    second = read(ask(functions, group_by="model", limit="1", cursor=first["next_cursor"]))
    assert [page["rows"][0]["model"] for page in (first, second)] == ["first", "first-embedding"]
    assert first["total"] == second["total"]
    assert second["next_cursor"] is None
    refused = ask(functions, group_by="model,day", cursor=first["next_cursor"])
    assert refused["statusCode"] == 400


def test_a_months_file_adds_up_to_the_months_windows(functions: Functions, upstream: Upstream) -> None:
    functions("complete", sample("complete"))
    functions("admin_budget", sample("admin_budget_reset"))
    functions("complete", sample("complete"))
    month = datetime.now(UTC).strftime("%Y-%m")
    asked = {"queryStringParameters": {"month": month, "group_by": "model,day"}}

    answer = functions("admin_usage", sample("admin_usage", **asked, headers=CSV))

    assert answer["headers"]["Content-Type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer["body"])))
    usage = read(functions("admin_usage", sample("admin_usage", **asked)))
    assert sum(Decimal(row["cost_usd"]) for row in rows) == sum(w["spent_usd"] for w in usage["windows"])
    assert len(usage["windows"]) == 2
    assert usage["total"]["cost_usd"] == sum(price_of("azure", *bill) for bill in upstream.billed) > 0


# Behind what a spreadsheet skips, or takes for the end of a cell; and the signs in full width.
FORMULAS = [";=1", " =1", "\u3000=1", "\u00a0+1", "a;=1", "a|@SUM(A1)", "a, -1", '"=1', "'=1", "\ufeff=1", "\uff1d1",
            "\uff0b1", " \uff0d1", ";\uff20SUM(A1)", "\x0b=1", "\u200b=1"]  # fmt: skip


def test_no_cell_of_a_file_is_a_formula(functions: Functions, database_url: str) -> None:
    functions("complete", sample("complete"))
    with psycopg.connect(database_url) as connection:
        for n, team in enumerate(
            ['=HYPERLINK("x")', "+1", "-1", "@SUM(A1)", "\t=1", 'a "quoted", one', "plain", *FORMULAS]
        ):
            connection.execute(
                "INSERT INTO api_key (id, name, scopes, tags, created_at, created_by)"
                " VALUES (%s, '=1', '{complete}', %s, now(), 'test')",
                (f"k{n:02}", Jsonb({"=team": team})),
            )
            connection.execute(
                "INSERT INTO usage_rollup (window_id, day, provider, model, tier, key_id, cost, requests)"
                " SELECT window_id, day, provider, model, tier, %s, 1e-9, 1 FROM usage_rollup WHERE key_id = ''",
                (f"k{n:02}",),
            )
    query = {"group_by": "key,tag:=team"}
    body = functions("admin_usage", sample("admin_usage", queryStringParameters=query, headers=CSV))["body"]
    rows = list(csv.reader(io.StringIO(body)))
    assert rows[0] == ["key", "key_name", "tag:=team", "cost_usd", "requests", "input_tokens", "output_tokens"]
    assert {row[1] for row in rows[2:]} == {"'=1"}
    cells = [row[2] for row in rows[1:]]
    assert cells == [
        "",
        '\'=HYPERLINK("x")',
        "'+1",
        "'-1",
        "'@SUM(A1)",
        "'\t=1",
        'a "quoted", one',
        "plain",
        *(f"'{each}" for each in FORMULAS),
    ]
    assert {row[3] for row in rows[2:]} == {"0.000000001"}


def test_a_file_that_would_be_cut_off_is_refused(functions: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    functions("complete", sample("complete"))
    functions("embed", sample("embed"))
    monkeypatch.setattr(usage_module, "_MAX_LINES", 1)
    asked = sample("admin_usage", queryStringParameters={"group_by": "model"}, headers=CSV)
    answer = functions("admin_usage", asked)
    assert (answer["statusCode"], read(answer)["error"]["param"]) == (400, "group_by")


@pytest.mark.parametrize(
    ("name", "parameter", "value"),
    [
        ("admin_usage", "group_by", "colour"),
        ("admin_usage", "group_by", ""),
        ("admin_usage", "group_by", "day,day"),
        ("admin_usage", "group_by", "tag:"),
        ("admin_usage", "from", "yesterday"),
        ("admin_usage", "from", "1700000000"),
        ("admin_usage", "to", "2026-02-30"),
        ("admin_usage", "to", "0001-01-01"),
        ("admin_usage", "month", "2026-13"),
        ("admin_usage", "month", "2026-1"),
        ("admin_usage", "limit", "0"),
        ("admin_usage", "limit", "1001"),
        ("admin_usage", "cursor", "é"),
        ("admin_usage", "cursor", "e30="),
        ("admin_usage", "colour", "red"),
        ("admin_usage_calls", "status", "open"),
        ("admin_usage_calls", "cursor", "1"),
        ("admin_usage_calls", "from", "2026-11-25T09:00:00"),
        ("admin_usage_calls", "provider", ""),
        ("admin_usage_calls", "to", "9999-12-31T23:59:59Z"),
        ("admin_usage_audit", "cursor", "-1"),
        ("admin_usage_audit", "cursor", "9223372036854775808"),
        ("admin_usage_audit", "limit", "many"),
    ],
)
def test_what_cant_be_understood_is_named(functions: Functions, name: str, parameter: str, value: str) -> None:
    answer = ask(functions, name, **{parameter: value})
    assert answer["statusCode"] == 400
    error = read(answer)["error"]
    assert error["param"].partition("[")[0] == parameter, error
    assert len(error["message"]) < 300


@pytest.mark.parametrize(
    "query",
    [
        {"from": "2026-11-02", "to": "2026-11-01"},
        {"month": "2026-11", "from": "2026-11-01"},
        {"group_by": "day", "cursor": "WyJhIiwiYiJd"},
        {"cursor": "W1tbW1tbW1tbW1tbW1tb" * 500},
    ],
)
def test_what_contradicts_itself_is_refused(functions: Functions, query: dict[str, str]) -> None:
    assert ask(functions, **query)["statusCode"] == 400


def test_a_calls_story_has_every_attempt_and_no_content(
    functions: Functions, upstream: Upstream, second_upstream: Upstream
) -> None:
    upstream.script.append(status(500, error={"message": "sentinel-vendor-words"}))
    event = sample("complete")
    functions("complete", event)
    request_id = event["requestContext"]["requestId"]

    answer = functions("admin_usage", sample("admin_usage_call"))

    result = read(answer)
    assert result["request_id"] == request_id
    assert result["cost_usd"] == price_of("openai", *second_upstream.billed[0])
    shown = [(a["attempt"], a["provider"], a["status"], a["cost_basis"]) for a in result["attempts"]]
    assert shown[1] == (2, "openai", "settled", "actual")
    assert shown[0][:2] == (1, "azure")
    assert "sentinel" not in answer["body"]
    for word in json.loads(event["body"])["messages"][-1]["content"].split():
        assert len(word) < 6 or word not in answer["body"]
    listed = read(ask(functions, "admin_usage_calls", request_id=request_id))
    assert listed == {"rows": result["attempts"][::-1], "refused": [], "next_cursor": None}


def test_a_day_in_a_filter_is_a_whole_day_of_the_budgets_zone(functions: Functions) -> None:
    functions.set(AI_BUDGET_TIMEZONE="Asia/Tokyo")
    functions("complete", sample("complete"))
    [row] = read(ask(functions, "admin_usage_calls"))["rows"]
    day = row["day"]
    for query, expected in (
        ({"from": day, "to": day}, 1),
        ({"to": "2026-01-01"}, 0),
        ({"from": row["reserved_at"]}, 1),
        ({"from": row["reserved_at"].replace("+", " ")}, 1),
        ({"to": row["reserved_at"]}, 0),
    ):
        assert len(read(ask(functions, "admin_usage_calls", **query))["rows"]) == expected, query


def test_an_unknown_call_is_a_404(functions: Functions) -> None:
    answer = functions("admin_usage", sample("admin_usage_call"))
    assert (answer["statusCode"], read(answer)["error"]["code"]) == (404, "call_not_found")
    assert answer["headers"]["x-should-retry"] == "false"


def test_the_audit_is_told_newest_first_by_pages(functions: Functions) -> None:
    for reason in ("first", "second", "third"):
        functions("admin_budget", sample("admin_budget_reset", {"reason": reason}))
    page = read(ask(functions, "admin_usage_audit", limit="2"))
    assert [row["after"]["reason"] for row in page["rows"]] == ["third", "second"]
    assert page["rows"][0] | {"n": 3, "actor": "open", "action": "budget.reset"} == page["rows"][0]
    rest = read(ask(functions, "admin_usage_audit", limit="2", cursor=page["next_cursor"]))
    assert [row["after"]["reason"] for row in rest["rows"]] == ["first"]
    assert rest["next_cursor"] is None
    for query, expected in (
        ({"action": "budget.reset", "actor": "open"}, 3),
        ({"action": "key.created"}, 0),
        ({"actor": "nobody"}, 0),
        ({"from": page["rows"][0]["at"]}, 1),
        ({"to": page["rows"][0]["at"]}, 2),
        ({"to": "2026-01-01"}, 0),
    ):
        assert len(read(ask(functions, "admin_usage_audit", **query))["rows"]) == expected, query


@pytest.mark.parametrize("name", ["admin_usage", "admin_usage_calls", "admin_usage_call", "admin_usage_audit"])
def test_without_the_ledger_there_is_no_answer(functions: Functions, name: str) -> None:
    functions.set(DATABASE_URL="postgresql://127.0.0.1:1/nowhere")
    answer = functions("admin_usage", sample(name))
    assert (answer["statusCode"], read(answer)["error"]["code"]) == (503, "ledger_unavailable")


def test_the_forecast_is_null_until_there_are_seven_whole_days_and_a_keys_is_its_own(
    functions: Functions, database_url: str
) -> None:
    functions("complete", sample("complete"))
    made = read(functions("admin_keys", sample("admin_keys_create")))
    shown = {"pathParameters": {"id": made["id"]}, "path": f"/api/v1/admin/keys/{made['id']}"}
    nothing = {"month_end_usd": None, "exhausted_at": None}
    assert read(functions("admin_budget", sample("admin_budget")))["forecast"] == nothing
    assert read(functions("admin_keys", sample("admin_keys_show", **shown)))["forecast"] == nothing

    with psycopg.connect(database_url) as connection:
        # Eight days at 1 USD each for the company, of which the key has 0.25.
        connection.execute(
            "INSERT INTO usage_rollup (window_id, day, provider, model, tier, key_id, cost, requests)"
            " SELECT w.id, (now() AT TIME ZONE 'UTC')::date - back, 'openai', 'gpt', '', k.id, k.cost, 1"
            " FROM budget_window w, generate_series(1, 8) back, (VALUES ('', 0.75), (%s, 0.25)) k (id, cost)",
            (made["id"],),
        )
        connection.execute(
            "INSERT INTO budget_window (budget, opened_at, opened_by, resets_at)"
            " SELECT %s, opened_at, 'use', resets_at FROM budget_window",
            (made["id"],),
        )

    company = read(functions("admin_budget", sample("admin_budget")))
    key = read(functions("admin_keys", sample("admin_keys_show", **shown)))
    left = (datetime.fromisoformat(company["window"]["resets_at"]) - datetime.now(UTC)).total_seconds() / 86_400
    for result, daily in ((company, 1), (key, 0.25)):
        ahead = float(result["forecast"]["month_end_usd"] - result["current_spend_usd"])
        assert ahead == pytest.approx(left * daily, abs=0.01)
        assert result["forecast"]["exhausted_at"] is None
