"""What is sent to the gateway, and the one line for whatever may come back."""

import json
from decimal import Decimal
from typing import Any

import pytest

from cli.__main__ import main
from cli.api import Api, ApiError, path_of
from tests.unit.cli.conftest import Server, refused


@pytest.mark.parametrize("end", ["", "/", "/api/v1", "/api/v1/"])
def test_the_url_may_have_the_bases_path_or_not(server: Server, end: str) -> None:
    server.will({})
    Api({"FUSEWIRE_URL": server.url + end}).get("/admin/budget", a="x y", b=None)
    assert [(method, path) for method, path, _, _ in server.asked] == [("GET", "/api/v1/admin/budget?a=x+y")]


def test_the_key_is_sent_and_money_goes_and_comes_with_every_digit(server: Server) -> None:
    server.will(b'{"cost_usd": 0.10000000000000000001}')
    api = Api({"FUSEWIRE_URL": server.url, "FUSEWIRE_KEY": "fw_secret"})
    result = api.change("PATCH", "/admin/keys/k", {"monthly_budget_usd": Decimal("80.000001")})
    assert result == {"cost_usd": Decimal("0.10000000000000000001")}
    [(method, _, headers, body)] = server.asked
    assert (method, headers["authorization"], body) == (
        "PATCH",
        "Bearer fw_secret",
        b'{"monthly_budget_usd": 80.000001}',
    )


def test_a_redirect_is_not_followed_with_the_key(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.will(b"", 302, location=f"{server.url}/elsewhere")
    assert "answered 302 with nothing that fusewire says" in refused("budget", capsys=capsys)
    assert len(server.asked) == 1


def test_rows_come_over_as_many_pages_as_are_wanted(server: Server) -> None:
    server.will({"rows": [{"n": 1}, {"n": 2}], "next_cursor": "a"})
    server.will({"rows": [], "next_cursor": "b"})  # a page may be empty, with another to follow
    server.will({"rows": [{"n": 3}, {"n": 4}], "next_cursor": "c"})
    rows = list(Api({"FUSEWIRE_URL": server.url}).rows("/x", 3, actor="me"))
    assert rows == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert [path for _, path, _, _ in server.asked] == [
        "/api/v1/x?limit=3&actor=me",
        "/api/v1/x?limit=1&cursor=a&actor=me",
        "/api/v1/x?limit=1&cursor=b&actor=me",
    ]


def test_an_error_is_told_in_the_gateways_own_words(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    error = {"message": "There is no key\nk.", "type": "t", "code": "key_not_found", "param": None}
    server.will({"error": error}, 404, x_request_id="r-1")
    assert refused("budget", capsys=capsys) == "fusewire: There is no key k (key_not_found, request r-1).\n"


@pytest.mark.parametrize(("status", "hint"), [(401, "set FUSEWIRE_KEY to a key"), (403, "needs the admin scope")])
def test_without_the_right_key_the_line_says_which_variable(
    server: Server, capsys: pytest.CaptureFixture[str], status: int, hint: str
) -> None:
    server.will({"error": {"message": "No.", "code": "c"}}, status)
    assert hint in refused("audit", capsys=capsys)


@pytest.mark.parametrize("body", [b"<html>", b'{"error": "x"}', b"[]", b""])
def test_another_servers_error_says_so(server: Server, capsys: pytest.CaptureFixture[str], body: bytes) -> None:
    server.will(body, 502)
    assert "answered 502" in refused("budget", capsys=capsys)


def test_another_servers_answer_says_so(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.will(b"<html>welcome</html>")
    assert "isn't fusewire" in refused("budget", capsys=capsys)


def test_nobody_there_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FUSEWIRE_URL", "http://127.0.0.1:9")
    assert "nothing usable answers at http://127.0.0.1:9 (Connection refused)" in refused("budget", capsys=capsys)


@pytest.mark.parametrize("url", ["ftp://x", "localhost:8000", "http://", "http://[::1", "http://x:99999", "//x"])
def test_an_address_that_is_none_is_told(url: str) -> None:
    with pytest.raises(ApiError, match="FUSEWIRE_URL="):
        Api({"FUSEWIRE_URL": url})


def test_a_key_that_no_header_can_carry_is_not_printed() -> None:
    with pytest.raises(ApiError, match="FUSEWIRE_KEY") as raised:
        Api({"FUSEWIRE_KEY": "fw_sec\nret"})
    assert "sec" not in str(raised.value)


def test_an_id_stays_one_part_of_the_path() -> None:
    assert path_of("a/b?c") == "/a%2Fb%3Fc"
    for nothing in ("", ".", ".."):
        with pytest.raises(ApiError):
            path_of(nothing)


KEY = "key_1"
Sent = tuple[str, str, Any]
CASES: list[tuple[list[str], Sent]] = [
    (["budget"], ("GET", "/admin/budget", None)),
    (["budget", "limit", "600.50", "--until", "window", "--reason", "r", "--yes"],
     ("PATCH", "/admin/budget", {"monthly_limit_usd": Decimal("600.50"), "until": "window", "reason": "r"})),
    (["budget", "limit", "600", "--reason", "r", "--yes"],
     ("PATCH", "/admin/budget", {"monthly_limit_usd": 600, "until": None, "reason": "r"})),
    (["budget", "limit", "none", "--reason", "r", "--yes"],
     ("PATCH", "/admin/budget", {"monthly_limit_usd": None, "until": None, "reason": "r"})),
    (["budget", "adjust", "--amount", "-0.10", "--reason", "r", "--yes"],
     ("POST", "/admin/budget/adjustments", {"amount_usd": Decimal("-0.10"), "reason": "r"})),
    (["budget", "adjust", "--amount", "7", "--reason", "r", "--window", "3", "--yes"],
     ("POST", "/admin/budget/adjustments", {"amount_usd": 7, "reason": "r", "window_id": 3})),
    (["budget", "adjustments", "--window", "3"], ("GET", "/admin/budget/adjustments?limit=20&window_id=3", None)),
    (["prices", "list", "--status", "staged"], ("GET", "/admin/prices?limit=100&status=staged", None)),
    (["prices", "add", "openai/a/b", '{"input_mtok": 0.10, "output_mtok": 1}', "--from", "2099-01-01T00:00:00Z",
      "--yes"],
     ("POST", "/admin/prices", {
         "provider": "openai", "model": "a/b", "price": {"input_mtok": Decimal("0.10"), "output_mtok": 1},
         "effective_from": "2099-01-01T00:00:00Z"})),
    (["prices", "remove", "p", "--yes"], ("DELETE", "/admin/prices/p", None)),
    (["prices", "apply", "p", "--yes"], ("POST", "/admin/prices/p", {})),
    (["allowances", "list"], ("GET", "/admin/allowances?limit=100", None)),
    (["allowances", "remove", "vllm/Org/a b", "--yes"], ("DELETE", "/admin/allowances/vllm/Org/a%20b", None)),
    (["reset", "--yes"], ("POST", "/admin/budget/reset", {})),
    (["reset", "--yes", "--reason", "r"], ("POST", "/admin/budget/reset", {"reason": "r"})),
    (["providers", "--probe"], ("GET", "/admin/providers?probe=true", None)),
    (["calls", "--refused", "--key", "k"], ("GET", "/admin/calls?limit=20&status=refused&key=k", None)),
    (["calls", "r 1"], ("GET", "/admin/calls/r%201", None)),
    (["calls", "--provider", "p", "--basis", "bound", "--from", "2026-11-01", "--limit", "5"],
     ("GET", "/admin/calls?limit=5&provider=p&cost_basis=bound&from=2026-11-01", None)),
    (["audit", "--action", "budget.reset"], ("GET", "/admin/audit?limit=20&action=budget.reset", None)),
    (["keys", "list"], ("GET", "/admin/keys?limit=100", None)),
    (["keys", "show", KEY], ("GET", "/admin/keys/key_1", None)),
    (["keys", "create", "team"], ("POST", "/admin/keys", {"name": "team", "scopes": ["complete"]})),
    (["keys", "create", "team", "--scope", "admin", "--budget", "0.1", "--requests", "5", "--tokens", "6", "--model",
      "sota", "--model", "openai/m", "--classification", "public", "--expires", "2027-01-01T00:00:00Z",
      "--tag", "a=b=c"],
     ("POST", "/admin/keys", {
         "name": "team", "scopes": ["admin"], "monthly_budget_usd": Decimal("0.1"), "requests_per_minute": 5,
         "tokens_per_minute": 6, "allowed_models": ["sota", "openai/m"], "allowed_classifications": ["public"],
         "expires_at": "2027-01-01T00:00:00Z", "tags": {"a": "b=c"}})),
    (["keys", "update", KEY, "--budget", "none", "--model", "none", "--expires", "none", "--requests", "none"],
     ("PATCH", "/admin/keys/key_1", {
         "monthly_budget_usd": None, "allowed_models": None, "expires_at": None, "requests_per_minute": None})),
    (["keys", "update", KEY, "--tag", "none"], ("PATCH", "/admin/keys/key_1", {"tags": {}})),
    (["keys", "revoke", KEY, "--yes"], ("DELETE", "/admin/keys/key_1", None)),
    (["keys", "rotate", KEY, "--overlap", "60"], ("POST", "/admin/keys/key_1/rotate", {"overlap_seconds": 60})),
    (["keys", "reset", KEY, "--yes"], ("POST", "/admin/keys/key_1/reset", {})),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "sent"), CASES, ids=lambda case: " ".join(map(str, case))[:40])
def test_a_command_asks_for_just_this(
    server: Server, capsys: pytest.CaptureFixture[str], arguments: list[str], sent: Sent
) -> None:
    answer: dict[str, object] = {"rows": [], "refused": [], "next_cursor": None, "attempts": [], "key": "fw_secret"}
    server.will(answer)
    assert main([*arguments, "--json"]) == 0
    [(method, path, _, body)] = server.asked
    result = json.loads(body, parse_float=Decimal) if body else None
    assert (method, path, result) == (sent[0], f"/api/v1{sent[1]}", sent[2])
    assert json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    "arguments",
    [
        ["reset"],
        ["keys", "revoke", KEY],
        ["keys", "reset", KEY],
        ["budget", "adjust", "--amount", "1", "--reason", "r"],
        ["budget", "limit", "1", "--reason", "r"],
        ["prices", "remove", "p"],
        ["prices", "apply", "p"],
        ["prices", "add", "openai/m", "{}"],
    ],
)
def test_what_cant_be_taken_back_wants_a_yes_where_nobody_can_be_asked(
    server: Server, capsys: pytest.CaptureFixture[str], arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert "--yes" in refused(*arguments, capsys=capsys)
    assert server.asked == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["keys", "create", "x", "--budget", "much"], "--budget"),
        (["budget", "adjust", "--amount", "much", "--reason", "r"], "--amount"),
        (["budget", "limit", "much", "--reason", "r"], "USD"),
        (["prices", "add", "gpt-4o", "{}"], "provider/model"),
        (["prices", "add", "openai/gpt-4o", "5"], "JSON object"),
        (["prices", "apply"], "--all"),
        (["prices", "apply", "p", "--all"], "--all"),
        (["prices", "pull"], "FUSEWIRE_PRICE_SOURCE"),
        (["prices", "pull", "/nowhere"], "/nowhere"),
        (["prices", "pull", "http://example.com/data.json"], "https"),
        (["budget", "adjust", "--amount", "NaN", "--reason", "r"], "--amount"),
        (["keys", "create", "x", "--budget", "Infinity"], "--budget"),
        (["keys", "create", "x", "--requests", "1.5"], "--requests"),
        (["keys", "create", "x", "--tag", "a"], "--tag"),
        (["keys", "update", "key_1", "--tag", "none", "--tag", "a=b"], "--tag"),
        (["keys", "update", KEY], "--budget"),
        (["keys", "show", ""], "an id"),
    ],
)
def test_a_value_that_cant_be_used_is_named_before_anything_is_sent(
    server: Server, capsys: pytest.CaptureFixture[str], arguments: list[str], named: str
) -> None:
    assert named in refused(*arguments, capsys=capsys)
    assert server.asked == []


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["keys"], ["keys", "nonsense"], ["keys", "show"], ["usage", "--limit", "0"], ["--x"]]
)
def test_a_command_line_that_isnt_understood_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert main(arguments) == 2
    message = capsys.readouterr()
    assert message.out == ""
    assert message.err.count("\n") == 1 and "--help" in message.err


def test_help_is_what_is_shown_without_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    message = capsys.readouterr().out
    for word in ("budget", "reset", "keys", "usage", "calls", "providers", "audit", "FUSEWIRE_URL", "FUSEWIRE_KEY"):
        assert word in message


def test_a_new_keys_secret_is_alone_on_its_line(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.will({"id": KEY, "name": "team", "key": "fw_secret"})
    assert main(["keys", "create", "team"]) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert first == "fw_secret"
    assert not [line for line in others if "fw_secret" in line]


def test_whatever_the_api_says_of_a_key_is_shown(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.will(
        {
            "id": KEY,
            "an_attribute_of_tomorrow": 7,
            "tags": {"team": "a"},
            "secrets": [{"prefix": "fw_old"}],
            "window": {"id": 1, "resets_at": "2026-12-01T00:00:00+00:00"},
            "minute": None,
        }
    )
    assert main(["keys", "show", KEY]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["id", KEY],
        ["an_attribute_of_tomorrow", "7"],
        ["tags", "team=a"],
        ["window.id", "1"],
        ["window.resets_at", "2026-12-01", "00:00:00+00:00"],
        ["minute", "-"],
    ]
