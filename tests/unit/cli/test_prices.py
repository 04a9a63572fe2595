"""A price list of genai-prices' format: what is taken over, what is left out, and what only a person applies."""

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cli.__main__ import main
from cli.api import ApiError
from cli.price_source import NoPriceError, entry_of, read
from cli.prices import differences
from tests.unit.cli.conftest import Server, refused

TIERED = {"base": 3, "tiers": [{"start": 200000, "price": 6}]}
PROVIDERS: list[Any] = [
    {
        "id": "openai",
        "models": [
            {"id": "m", "match": {"equals": "M"}, "prices": {"input_mtok": 1.25, "cache_read_mtok": 0.125,
                                                             "output_mtok": 10, "web_searches_kcount": 10}},
            {"id": "vectors", "match": {"starts_with": "embed"}, "prices": {"input_mtok": 0.02}},
            {"id": "silent", "match": {"equals": "silent"}, "prices": {"input_mtok": 1}},
            {"id": "spoken", "match": {"equals": "spoken"}, "prices": {"input_mtok": 1, "output_mtok": 2,
                                                                       "output_audio_mtok": 9}},
            {"id": "gift", "match": {"equals": "gift"}, "prices": {"input_mtok": 0, "output_mtok": 0}},
            {"id": "dated", "match": {"or": [{"equals": "dated"}, {"and": [{"starts_with": "d"}, {"ends_with": "x"}]}]},
             "prices": [{"prices": {"input_mtok": TIERED, "output_mtok": 15}},
                        {"constraint": {"start_date": "2026-03-13"}, "prices": {"input_mtok": 3, "output_mtok": 15}}]},
            {"id": "nightly", "match": {"regex": "^night"},
             "prices": [{"prices": {"input_mtok": 1, "output_mtok": 2}},
                        {"constraint": {"start_time": "16:30:00Z", "end_time": "00:30:00Z"},
                         "prices": {"input_mtok": 0.5, "output_mtok": 1}}]},
        ],
    },
    {"id": "google", "models": [{"id": "g", "match": {"contains": "gemini"}, "prices": {"input_mtok": 1,
                                                                                       "output_mtok": 2}}]},
    {"id": "aws", "models": [{"id": "amazon.nova-lite-v1:0", "match": {"contains": "amazon.nova-lite"},
                              "prices": {"input_mtok": 0.06, "output_mtok": 0.24}},
                             {"id": "global.anthropic.claude-x", "match": {"contains": "global.anthropic.claude-x"},
                              "prices": {"input_mtok": 1, "output_mtok": 5}}]},
]  # fmt: skip
NOW = date(2026, 11, 30)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "data.json"
    file.write_text(json.dumps(PROVIDERS))
    return file


@pytest.mark.parametrize(
    ("provider", "model", "today", "entry"),
    [
        ("openai", "m", NOW, {"input_mtok": "1.25", "cached_input_mtok": "0.125", "output_mtok": "10"}),
        ("openai", "embed-3", NOW, {"input_mtok": "0.02", "output_mtok": "0"}),
        ("openai", "dated", date(2026, 3, 12), {"input_mtok": TIERED, "output_mtok": "15"}),
        ("openai", "dx", date(2026, 3, 13), {"input_mtok": "3", "output_mtok": "15"}),
        ("gcp", "google/gemini-9", NOW, {"input_mtok": "1", "output_mtok": "2"}),
        ("aws", "amazon.nova-lite-v1:0", NOW, {"input_mtok": "0.06", "output_mtok": "0.24"}),
        ("aws", "global.anthropic.claude-x-v1:0", NOW, {"input_mtok": "1", "output_mtok": "5"}),
    ],
)
def test_what_the_source_says_of_a_model_is_an_entry_with_exact_numbers(
    source: Path, provider: str, model: str, today: date, entry: dict[str, Any]
) -> None:
    exact = {name: value if isinstance(value, dict) else Decimal(value) for name, value in entry.items()}
    assert entry_of(read(str(source)), provider, model, today) == exact


@pytest.mark.parametrize(
    ("provider", "model", "why"),
    [
        ("openai", "mm", "isn't in the source"),
        ("azure", "m", "isn't in the source"),
        ("openai", "silent", "no price of its tokens"),
        ("openai", "spoken", "output_audio_mtok"),
        ("openai", "gift", "free"),
        ("openai", "nightly", "time of day"),
        ("aws", "eu.amazon.nova-lite-v1:0", "no price of this region"),
    ],
)
def test_what_cant_be_taken_over_is_left_out_by_name(source: Path, provider: str, model: str, why: str) -> None:
    with pytest.raises(NoPriceError, match=why):
        entry_of(read(str(source)), provider, model, NOW)


@pytest.mark.parametrize("text", ["{}", "[1]", "no", '{"providers": []}'])
def test_a_file_that_is_no_price_list_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x").write_text(text)
    with pytest.raises(ApiError, match="as genai-prices has it"):
        read(str(tmp_path / "x"))


def test_a_pull_stages_what_differs_and_nothing_else(
    server: Server, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = [
        {"id": "sota", "kind": "tier"},
        {"id": "openai/m", "kind": "chat", "price_in_full": {"input_mtok": 2, "output_mtok": 10}},
        {"id": "gcp/gemini-9", "kind": "chat", "price_in_full": {"input_mtok": 1, "output_mtok": 2}},
        {"id": "openai/unknown", "kind": "chat", "price_in_full": None},
    ]
    server.will({"data": models})
    server.will({"id": "p", "provider": "openai", "model": "m", "status": "staged"}, 201)
    assert main(["prices", "pull", str(source), "--json"]) == 0
    _, (method, path, _, body) = server.asked
    assert (method, path) == ("POST", "/api/v1/admin/prices")
    assert json.loads(body, parse_float=Decimal) == {
        "provider": "openai", "model": "m", "staged": True, "source": str(source)[:200],
        "price": {"input_mtok": Decimal("1.25"), "cached_input_mtok": Decimal("0.125"), "output_mtok": 10},
    }  # fmt: skip
    statuses = [row["status"] for row in json.loads(capsys.readouterr().out)["rows"]]
    assert statuses == ["staged", "as it is", "left out: it isn't in the source"]


def test_a_diff_shows_each_kind_of_token_that_would_change(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.will({"data": [{"id": "openai/M", "kind": "chat", "price_in_full": {"input_mtok": 2, "output_mtok": 10}}]})
    staged = {"id": "p", "provider": "openai", "model": "m", "price": {"input_mtok": 3, "output_mtok": 10}}
    server.will({"rows": [staged], "next_cursor": None})
    assert main(["prices", "diff", "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)["rows"]
    assert (row["kind"], row["now"], row["staged"]) == ("input_mtok", 2, 3)


def test_a_tier_that_comes_or_goes_is_a_difference_and_what_the_gateway_derives_is_none() -> None:
    assert differences({"input_mtok": TIERED}, {"input_mtok": 3}) == [("input_mtok", TIERED, 3)]
    assert differences({"input_mtok": 3, "cache_write_1h_mtok": 6}, {"input_mtok": 3}) == []
    assert differences(None, {"input_mtok": 3}) == [("input_mtok", None, 3)]


def test_all_that_is_staged_is_applied_at_once_when_a_person_says_so(server: Server) -> None:
    server.will({"rows": [{"id": "p"}, {"id": "q"}], "next_cursor": None})
    server.will({"id": "p"})
    server.will({"id": "q"})
    assert main(["prices", "apply", "--all", "--from", "2099-01-01T00:00:00Z", "--yes", "--json"]) == 0
    assert [(method, path) for method, path, _, _ in server.asked[1:]] == [
        ("POST", "/api/v1/admin/prices/p"),
        ("POST", "/api/v1/admin/prices/q"),
    ]


def test_the_source_may_stand_in_the_environment(
    server: Server, source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FUSEWIRE_PRICE_SOURCE", str(source))
    server.will({"data": []})
    assert main(["prices", "pull", "--json"]) == 0
    capsys.readouterr()
    monkeypatch.setenv("FUSEWIRE_PRICE_SOURCE", " ")
    assert "FUSEWIRE_PRICE_SOURCE" in refused("prices", "pull", capsys=capsys)
