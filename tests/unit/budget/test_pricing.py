"""The snapshot is held against genai-prices itself; the rules on top of it against the contract."""

import json
import re
import string
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache

import pytest
from genai_prices import Usage
from genai_prices import calc_price as source_calc_price
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fusewire.budget import pricing
from fusewire.budget.pricing import Price, PriceBook, PriceOverride, TokenCounts
from fusewire.errors import ModelNotPricedError

BOOK = PriceBook(overrides={}, aliases={}, local_providers=())
SNAPSHOT = pricing._snapshot()
OURS = {"google": "gcp"}
"""Our provider ids, where they differ from genai-prices'."""


def book(
    overrides: Mapping[str, Mapping[str, object]] | None = None,
    aliases: dict[str, str] | None = None,
    local: tuple[str, ...] = ("ollama", "vllm"),
) -> PriceBook:
    parsed = {name: PriceOverride.model_validate(value) for name, value in (overrides or {}).items()}
    return PriceBook(overrides=parsed, aliases=aliases or {}, local_providers=local)


def clause_texts(clause: pricing._Clause) -> Iterator[str]:
    if isinstance(clause, dict):
        for parts in clause.values():
            for part in parts:
                yield from clause_texts(part)
    elif clause[0] != "~":
        yield clause[1:]


def all_names() -> list[tuple[str, str]]:
    """(provider in genai-prices, name): every id and every literal name in a match clause, fallbacks included."""
    names: set[tuple[str, str]] = set()
    for provider, entry in SNAPSHOT.items():
        for source in (provider, *entry["fallback"]):
            for model in SNAPSHOT[source]["models"]:
                names |= {(provider, name) for name in (model["id"], *clause_texts(model["match"]))}
    return sorted(names)


def priced_models() -> Iterator[tuple[str, str, Price]]:
    """(provider in genai-prices, name, price): every priced model, once for each seller."""
    seen = set()
    for provider, name in NAMES:
        entry = pricing._entry(provider, name.lower())
        if entry is None or (provider, id(entry)) in seen:
            continue
        try:
            yield provider, name, BOOK.price(OURS.get(provider, provider), name)
        except ModelNotPricedError:
            continue
        seen.add((provider, id(entry)))


NAMES = all_names()
PRICED = list(priced_models())


@cache
def source_prices_hour_writes(provider: str, name: str) -> bool:
    """False where some of the model's prices have 5-minute cache writes only."""
    entry = pricing._entry(provider, name.lower())
    assert entry is not None
    rates = [pricing._rates(each) for each in entry["prices"]]
    return all((each.cache_write is None) == (each.cache_write_1h is None) for each in rates)


def source_match(provider: str, name: str) -> str | None:
    try:
        return get_snapshot().find_provider_model(name, None, provider, None)[1].id
    except LookupError:
        return None


@st.composite
def counts(draw: st.DrawFn, most_input: int = 2_000_000, most_output: int = 500_000) -> TokenCounts:
    # Tiers start at these sizes: both sides of each must be likely.
    edges = [n for start in (99_999, 100_000, 128_000, 199_999, 200_000, 272_000) for n in (start, start + 1)]
    size = draw(st.integers(0, most_input) | st.sampled_from([n for n in edges if n <= most_input] or [0]))
    cached = draw(st.integers(0, size))
    written = draw(st.integers(0, size - cached))
    hour = draw(st.integers(0, written))
    return TokenCounts(size, draw(st.integers(0, most_output)), cached, written, hour)


MOMENTS = st.datetimes(datetime(2023, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC))


class TestAgainstTheSource:
    def test_every_name_finds_the_model_that_genai_prices_finds(self) -> None:
        dated = [(provider, re.sub(r"-(\d{4})-(\d\d)-(\d\d)\b", r"-\1\2\3", name)) for provider, name in NAMES]
        for name in {*NAMES, *dated}:
            found = pricing._entry(*name)
            assert (found["id"] if found else None) == source_match(*name), name
        assert BOOK.price("openai", "gpt-4o-20241120") == BOOK.price("openai", "gpt-4o")

    @settings(max_examples=1000, deadline=None)
    @given(
        st.sampled_from(NAMES),
        st.sampled_from(["", "us.", "eu.", "global.", "anthropic.", "anthropic/", "ft:", "arn:aws:bedrock/"]),
        st.sampled_from(
            ["", "-v1:0", "-20241120", "-2025-13-41", "-20251341", "@20250514", "-preview", "-tts", "-latest"]
        )
        | st.text(string.ascii_letters + string.digits + "-.:@/", max_size=12),
        st.booleans(),
    )
    def test_so_does_every_variation(self, name: tuple[str, str], prefix: str, suffix: str, upper: bool) -> None:
        provider, text = name[0], prefix + name[1] + suffix
        found = pricing._entry(provider, text.lower())
        assert (found["id"] if found else None) == source_match(provider, text.upper() if upper else text)

    @settings(max_examples=60, deadline=None)
    @given(counts=counts(), at=MOMENTS | st.just(datetime.now(UTC)))
    def test_every_model_costs_what_genai_prices_says(self, counts: TokenCounts, at: datetime) -> None:
        for source, name, price in PRICED:
            # Where genai-prices has no 1-hour price, fusewire goes its own way: TestCost shows it.
            hour = counts.cache_write_1h_tokens if source_prices_hour_writes(source, name) else 0
            ours = replace(counts, cache_write_1h_tokens=hour)
            usage = Usage(
                input_tokens=ours.input_tokens,
                output_tokens=ours.output_tokens,
                cache_read_tokens=ours.cached_input_tokens,
                cache_write_tokens=ours.cache_write_tokens,
                cache_write_1h_tokens=ours.cache_write_1h_tokens,
            )
            theirs = source_calc_price(usage, name, provider_id=source, genai_request_timestamp=at)
            assert price.cost(ours, at=at) == theirs.total_price, (source, name)

    def test_the_snapshot_covers_what_people_run(self) -> None:
        for provider, model, expected in (
            ("azure", "gpt-4o-2024-11-20", "2.5"),
            ("azure", "gpt-4o-mini", "0.15"),
            ("azure", "text-embedding-3-large", "0.13"),
            ("openai", "gpt-4o", "2.5"),
            ("openai", "o3", "2"),
            ("anthropic", "claude-sonnet-4-20250514", "3"),
            ("aws", "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "3.3"),
            ("aws", "global.anthropic.claude-sonnet-4-5-20250929-v1:0", "3"),
            ("aws", "amazon.titan-embed-text-v2:0", "0.02"),
            ("gcp", "google/gemini-2.5-pro", "1.25"),
            ("gcp", "gemini-2.5-flash", "0.3"),
            ("gcp", "google/gemini-embedding-001", "0.15"),
            ("gcp", "claude-opus-4-5@20251101", "5"),
        ):
            assert BOOK.price(provider, model).per_mtok()["input_mtok"] == Decimal(expected), model

    @pytest.mark.parametrize(
        ("provider", "model", "why"),
        [
            ("openai", "no-such-model", "it is nowhere"),
            ("nobody", "gpt-4o", "the provider is nowhere"),
            ("openai", "omni-moderation-latest", "its entry has no price"),
            ("gcp", "google/gemma-3-27b-it", "free on the Gemini API isn't free on Vertex"),
            ("azure", "davinci", "its entry has no output price, and it isn't an embedding"),
            ("openai", "gpt-audio", "audio costs more than the count of tokens shows"),
            ("gcp", "gemini-2.5-flash-image", "so do images"),
            ("openai", "gpt-image-1", "and image input"),
            ("openai", "whisper-1", "billed by the hour"),
            ("openai", "gpt-4o-mini-search-preview", "each search is billed beside the tokens"),
            ("azure", "o4-mini-deep-research", "and here, too"),
        ],
    )
    def test_refuses_what_it_cannot_price(self, provider: str, model: str, why: str) -> None:
        with pytest.raises(ModelNotPricedError) as error:
            BOOK.price(provider, model)
        assert (error.value.provider, error.value.model) == (provider, model), why


class TestCost:
    def test_a_tier_is_a_cliff_and_starts_above_its_threshold(self) -> None:
        price = BOOK.price("gcp", "gemini-2.5-pro")
        assert price.cost(TokenCounts(200_000, 1_000_000)) == Decimal("10.25")
        assert price.cost(TokenCounts(200_001, 1_000_000)) == Decimal("15.5000025")

    def test_each_kind_of_input_has_its_price(self) -> None:
        price = BOOK.price("anthropic", "claude-sonnet-4-0")  # 3, cached 0.3, writes 3.75 and 6, output 15
        counts = TokenCounts(1000, 100, cached_input_tokens=400, cache_write_tokens=300, cache_write_1h_tokens=200)
        assert price.cost(counts) * 1_000_000 == 300 * 3 + 400 * Decimal("0.3") + 375 + 200 * 6 + 100 * 15

    @pytest.mark.parametrize("provider", ["aws", "gcp"])
    def test_claude_hour_writes_without_a_listed_price_cost_twice_the_input(self, provider: str) -> None:
        name = {"aws": "us.anthropic.claude-opus-4-1-20250805-v1:0", "gcp": "claude-opus-4-1"}[provider]
        price = BOOK.price(provider, name)  # input 15
        assert price.cost(TokenCounts(100, 0, 0, 100, 100)) * 1_000_000 == 3000
        assert price.bound(100, 0) * 1_000_000 == 3000

    def test_other_vendors_hour_writes_cost_what_their_cache_writes_cost(self) -> None:
        price = BOOK.price("aws", "global.moonshotai.kimi-k3")
        assert price.cost(TokenCounts(100, 0, 0, 100, 100)) * 1_000_000 == 375

    def test_dated_prices_change_at_utc_midnight(self) -> None:
        price = BOOK.price("openai", "o3")  # 10 and 40, since 2025-06-10 2 and 8
        change = datetime(2025, 6, 10, tzinfo=UTC)
        assert price.cost(TokenCounts(100, 0), at=change - timedelta(seconds=1)) * 1_000_000 == 1000
        assert price.cost(TokenCounts(100, 0), at=change) * 1_000_000 == 200
        assert price.per_mtok(at=change)["output_mtok"] == 8

    def test_hourly_prices_follow_the_clock(self) -> None:
        price = BOOK.price("azure", "deepseek-chat")  # 0.135, from 00:30 to 16:30 0.27
        assert [
            price.per_mtok(at=datetime(2026, 3, 1, hour, minute, tzinfo=UTC))["input_mtok"]
            for hour, minute in ((0, 29), (0, 30), (16, 29), (16, 30))
        ] == [Decimal("0.135"), Decimal("0.27"), Decimal("0.27"), Decimal("0.135")]
        assert price.bound(1_000_000, 0, at=datetime(2026, 3, 1, 20, tzinfo=UTC)) == Decimal("0.27")

    def test_embeddings_have_no_output_to_pay_for(self) -> None:
        price = BOOK.price("openai", "text-embedding-3-small")
        assert price.cost(TokenCounts(1_000_000, 0)) == price.bound(1_000_000, 0) == Decimal("0.02")
        assert price.per_mtok() == {"input_mtok": Decimal("0.02"), "output_mtok": 0}

    @pytest.mark.parametrize(
        "arguments",
        [(-1, 0), (0, -1), (10, 0, -1), (10, 0, 0, -1), (10, 0, 0, 0, -1), (10, 0, 8, 3), (10, 0, 0, 5, 6)],
    )
    def test_a_misread_usage_is_refused(self, arguments: tuple[int, ...]) -> None:
        with pytest.raises(ValueError, match="token"):
            TokenCounts(*arguments)


class TestBound:
    @settings(max_examples=100, deadline=None)
    @given(
        counts=counts(),
        slack=st.tuples(st.integers(0, 300_000), st.integers(0, 1000)) | st.just((0, 0)),
        at=MOMENTS | st.just(datetime.now(UTC)),
        later=st.timedeltas(timedelta(0), timedelta(days=2)),
    )
    def test_no_call_within_it_costs_more_with_any_model(
        self, counts: TokenCounts, slack: tuple[int, int], at: datetime, later: timedelta
    ) -> None:
        most = counts.input_tokens + slack[0], counts.output_tokens + slack[1]
        for source, name, price in PRICED:
            assert price.cost(counts, at=at + later) <= price.bound(*most, at=at), (source, name)

    @given(
        prices=st.lists(st.none() | st.decimals(0, 999_999_999, allow_nan=False, places=9), min_size=4, max_size=4),
        counts=counts(),
    )
    def test_nor_with_any_override(self, prices: list[Decimal | None], counts: TokenCounts) -> None:
        names = ("input_mtok", "output_mtok", "cached_input_mtok", "cache_write_mtok")
        override = dict(zip(names, prices, strict=True))
        override |= {name: override[name] or Decimal(0) for name in names[:2]}
        price = book({"aws/claude": override}).price("aws", "claude")
        assert price.cost(counts) <= price.bound(counts.input_tokens, counts.output_tokens)

    def test_an_unreachable_tier_is_not_reserved_for(self) -> None:
        price = BOOK.price("gcp", "gemini-2.5-pro")
        assert price.bound(200_000, 1000) == Decimal("0.26")
        assert price.bound(200_001, 0) == Decimal("0.5000025")

    def test_covers_a_price_that_starts_before_the_call_can_settle(self) -> None:
        price = BOOK.price("gcp", "gemini-3.6-flash")  # 0.75, from 2027-01-01 on 1.5
        new_year = datetime(2027, 1, 1, tzinfo=UTC)
        assert [price.bound(1_000_000, 0, at=new_year - timedelta(days=n)) for n in (3, 2, 0)] == [
            Decimal("0.75"),
            Decimal("1.5"),
            Decimal("1.5"),
        ]

    def test_a_price_of_the_past_is_not_reserved_for(self) -> None:
        assert BOOK.price("openai", "o3").bound(1_000_000, 0) == 2


OVERRIDE: Mapping[str, object] = {"input_mtok": 10, "output_mtok": Decimal("30.5")}


class TestLookup:
    @pytest.mark.parametrize(
        ("build", "expected"),
        [
            (lambda o: book({"azure/gpt-4o": o, "azure/*": {"input_mtok": 1, "output_mtok": 1}}), "10"),
            (lambda o: book({"azure/*": o}, {"azure/gpt-4o": "gpt-4o-mini"}), "10"),
            (lambda o: book({"openai/*": o}, {"azure/gpt-4o": "gpt-4o-mini"}), "0.15"),
            (lambda o: book({}, {"azure/gpt-4o": "anthropic/claude-sonnet-4-0"}), "3"),
            (lambda o: book({"openai/ours": o}, {"azure/gpt-4o": "openai/ours"}), "10"),
            (lambda o: book({"azure/ours": o}, {"azure/gpt-4o": "ours"}), "10"),
            (lambda o: book({}, {}, local=("azure",)), "0"),
            (lambda o: book({"azure/gpt-4o": o}, {}, local=("azure",)), "10"),
            (lambda o: book({}, {"azure/gpt-4o": "openai/gpt-4o-mini"}, local=("azure",)), "0.15"),
            (lambda o: book({"azure/GPT-4o": o, "aws/*": o}), "2.5"),
        ],
    )
    def test_order(self, build: Callable[[Mapping[str, object]], PriceBook], expected: str) -> None:
        assert build(OVERRIDE).price("azure", "gpt-4o").per_mtok()["input_mtok"] == Decimal(expected)

    def test_an_alias_prices_a_deployment(self) -> None:
        aliases = {"azure/our-deployment": "gpt-4o", "gcp/tuned": "google/gemini-2.5-pro"}
        priced = book(aliases=aliases)
        assert priced.price("azure", "our-deployment") == BOOK.price("openai", "gpt-4o")
        assert priced.price("gcp", "tuned") == BOOK.price("gcp", "gemini-2.5-pro")

    @pytest.mark.parametrize("target", ["no-such-model", "openai/no-such-model", "", "nobody/gpt-4o"])
    def test_an_alias_that_leads_nowhere_is_refused(self, target: str) -> None:
        with pytest.raises(ModelNotPricedError):
            book(aliases={"azure/gpt-4o": target}).price("azure", "gpt-4o")

    def test_a_local_model_is_free_and_an_unset_cached_price_is_the_input_price(self) -> None:
        assert book().price("ollama", "llama").cost(TokenCounts(5, 5, 1, 1, 1)) == 0
        assert book().price("vllm", "org/any/model").bound(10**9, 10**9) == 0
        price = book({"vllm/org/model": OVERRIDE}).price("vllm", "org/model")
        assert price.per_mtok() == {"input_mtok": 10, "output_mtok": Decimal("30.5")}
        assert price.cost(TokenCounts(100, 10, 30, 40, 20)) * 1_000_000 == 1305

    def test_an_override_may_price_the_cache(self) -> None:
        override = {**OVERRIDE, "cached_input_mtok": 0, "cache_write_mtok": 20}
        price = book({"openai/m": override}).price("openai", "m")
        assert price.cost(TokenCounts(100, 0, 30, 40)) * 1_000_000 == 30 * 10 + 40 * 20
        assert price.bound(100, 0) * 1_000_000 == 2000

    @pytest.mark.parametrize(
        ("provider", "model"), [("anthropic", "claude-of-tomorrow"), ("aws", "eu.anthropic.Claude-x-v1:0")]
    )
    def test_an_override_of_a_claude_without_cache_prices_has_anthropics_multiples(
        self, provider: str, model: str
    ) -> None:
        price = book({f"{provider}/*": {"input_mtok": 3, "output_mtok": 15}}).price(provider, model)
        assert price.cost(TokenCounts(100_000, 0, 0, 100_000, 100_000)) == Decimal("0.60")
        assert price.cost(TokenCounts(100_000, 0, 0, 100_000)) == Decimal("0.375")
        assert price.cost(TokenCounts(100_000, 0)) == Decimal("0.30")
        assert price.bound(100_000, 0) == Decimal("0.60")

    def test_an_overrides_own_price_of_cache_writes_counts(self) -> None:
        price = book({"aws/*": {"input_mtok": 3, "output_mtok": 15, "cache_write_mtok": 3}}).price("aws", "claude-x")
        assert price.cost(TokenCounts(100_000, 0, 0, 100_000)) == Decimal("0.30")

    def test_the_answer_is_kept(self) -> None:
        assert BOOK.price("openai", "gpt-4o") is BOOK.price("openai", "gpt-4o")


class TestOverrideValidation:
    def test_json_numbers_stay_exact(self) -> None:
        text = '{"input_mtok": 0.1, "output_mtok": 30, "cached_input_mtok": null, "cache_write_mtok": "1.25"}'
        override = PriceOverride.model_validate(json.loads(text, parse_float=Decimal))
        assert (override.input_mtok, override.output_mtok) == (Decimal("0.1"), Decimal(30))
        assert (override.cached_input_mtok, override.cache_write_mtok) == (None, Decimal("1.25"))

    @pytest.mark.parametrize(
        "price",
        [True, False, 0.5, -1, "-0.1", "NaN", "Infinity", "ten", "", None, [1], 10**9, Decimal("1e-10")],
    )
    def test_refuses_what_is_not_a_price(self, price: object) -> None:
        with pytest.raises(ValidationError):
            PriceOverride.model_validate({"input_mtok": price, "output_mtok": 1})

    @pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
    def test_refuses_json_constants(self, text: str) -> None:
        value = json.loads(f'{{"input_mtok": {text}, "output_mtok": 1}}', parse_float=Decimal)
        with pytest.raises(ValidationError):
            PriceOverride.model_validate(value)

    @pytest.mark.parametrize("value", [{"input_mtok": 1}, {"input_mtok": 1, "output_mtok": 1, "output": 2}])
    def test_refuses_missing_and_unknown_fields(self, value: dict[str, object]) -> None:
        with pytest.raises(ValidationError):
            PriceOverride.model_validate(value)

    def test_is_frozen(self) -> None:
        override = PriceOverride(input_mtok=Decimal(1), output_mtok=Decimal(1))
        with pytest.raises(ValidationError):
            override.input_mtok = Decimal(2)  # type: ignore[misc]


def test_neither_the_snapshot_nor_genai_prices_is_loaded_before_it_is_needed() -> None:
    script = """
import sys
from fusewire.budget import pricing
override = pricing.PriceOverride(input_mtok=1, output_mtok=1)
book = pricing.PriceBook(overrides={"openai/*": override}, aliases={}, local_providers=["ollama"])
book.price("ollama", "any"), book.price("openai", "gpt-4o")
assert pricing._snapshot.cache_info().misses == 0
book.price("anthropic", "claude-sonnet-4-0")
assert pricing._snapshot.cache_info().misses == 1
assert "genai_prices" not in sys.modules
"""
    path = str(pricing._SNAPSHOT.parents[2])
    subprocess.run([sys.executable, "-c", script], check=True, env={"PYTHONPATH": path})  # noqa: S603
