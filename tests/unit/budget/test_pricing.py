"""The snapshot is held against genai-prices itself; the rules on top of it against the contract."""

import json
import re
import string
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache
from typing import ClassVar

import pytest
from genai_prices import Usage
from genai_prices import calc_price as source_calc_price
from genai_prices.data_snapshot import get_snapshot
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fusewire.budget import price_list
from fusewire.budget.price import Price, Rate, Rates, TokenCounts
from fusewire.budget.pricing import PriceBook, PriceEntryError, price_of
from fusewire.config import ConfigurationError
from fusewire.errors import ModelNotPricedError
from fusewire.price_overrides import SERVICE_TIERS, PriceOverride
from scripts.price_rows import AZURE, BEDROCK

PLACES = {"aws": "us-east-1", "gcp": "global"}
BOOK = PriceBook(overrides={}, aliases={}, local_providers=(), places=PLACES)
SNAPSHOT = price_list._snapshot()
OURS = {"google": "gcp"}
"""Our provider ids, where they differ from genai-prices'."""
FALLBACKS = {"azure": ("azure", "openai")}


def book(
    overrides: Mapping[str, Mapping[str, object]] | None = None,
    aliases: dict[str, str] | None = None,
    local: tuple[str, ...] = ("ollama", "vllm"),
    places: Mapping[str, str] | None = None,
) -> PriceBook:
    parsed = {name: PriceOverride.model_validate(value) for name, value in (overrides or {}).items()}
    return PriceBook(
        overrides=parsed, aliases=aliases or {}, local_providers=local, places={**PLACES, **(places or {})}
    )


def all_names() -> list[tuple[str, str]]:
    """(provider in genai-prices, name): every id and every literal name in a match clause, fallbacks included."""
    names: set[tuple[str, str]] = set()
    for provider, entry in SNAPSHOT.items():
        for source in (provider, *entry["fallback"]):
            for model in SNAPSHOT[source]["models"]:
                names |= {(provider, name) for name in (model["id"], *price_list.texts(model["match"]))}
    return sorted(names)


def priced_models() -> Iterator[tuple[str, str, Price]]:
    """(provider in genai-prices, name, price): every priced model, once for each seller."""
    seen = set()
    for provider, name in NAMES:
        entry = price_list._entry(provider, name.lower())
        if entry is None or (provider, id(entry)) in seen:
            continue
        try:
            yield provider, name, BOOK.price(OURS.get(provider, provider), name)
        except ModelNotPricedError:
            continue
        seen.add((provider, id(entry)))


NAMES = all_names()
PRICED = list(priced_models())
OWN = {"azure": AZURE, "aws": BEDROCK}


def is_own(provider: str, name: str) -> bool:
    """Whether the price list has the name from its own rows, and not from genai-prices."""
    entry = price_list._entry(provider, name.lower())
    return entry is not None and entry["id"] in {"disputed", *OWN.get(provider, ())}


@cache
def source_prices_hour_writes(provider: str, name: str) -> bool:
    """False where some of the model's prices have 5-minute cache writes only."""
    entry = price_list._entry(provider, name.lower())
    assert entry is not None
    rates = [price_list._rates(each) for each in entry["prices"]]
    return all((each.cache_write is None) == (each.cache_write_1h is None) for each in rates)


def source_match(provider: str, name: str) -> str | None:
    """genai-prices' model; None where it is only in a list that we don't complete this vendor's by."""
    try:
        _, model = get_snapshot().find_provider_model(name, None, provider, None)
    except LookupError:
        return None
    sellers = FALLBACKS.get(provider, (provider,))
    return model.id if any(model in each.models for each in get_snapshot().providers if each.id in sellers) else None


@st.composite
def counts(draw: st.DrawFn, max_input: int = 2_000_000, max_output: int = 500_000) -> TokenCounts:
    # Tiers start at these sizes: both sides of each must be likely.
    edges = [n for start in (99_999, 100_000, 128_000, 199_999, 200_000, 272_000) for n in (start, start + 1)]
    size = draw(st.integers(0, max_input) | st.sampled_from([n for n in edges if n <= max_input] or [0]))
    cached = draw(st.integers(0, size))
    written = draw(st.integers(0, size - cached))
    hour = draw(st.integers(0, written))
    return TokenCounts(size, draw(st.integers(0, max_output)), cached, written, hour)


MTOK = st.decimals(0, 999_999, allow_nan=False, places=4)
AMOUNTS = MTOK | st.builds(
    lambda base, tiers: {"base": base, "tiers": [{"start": n, "price": p} for n, p in sorted(tiers.items())]},
    MTOK,
    st.dictionaries(st.sampled_from([1000, 128_000, 200_000, 272_000]), MTOK, min_size=1),
)
KINDS = st.fixed_dictionaries(
    {"input_mtok": AMOUNTS, "output_mtok": AMOUNTS},
    optional={
        f"{kind}_mtok": AMOUNTS
        for kind in (
            *("cached_input", "cache_write", "cache_write_1h"),
            *("input_image", "input_audio", "output_image", "output_audio"),
        )
    },
)
FACTORS = st.builds(lambda factor: {"multiply": factor}, st.decimals("0.01", 100, allow_nan=False, places=2))


@st.composite
def entries(draw: st.DrawFn) -> PriceOverride:
    """Any price entry: every kind of token, long-context tiers, service tiers and factors."""
    if draw(st.booleans()):
        return PriceOverride.model_validate(draw(FACTORS))
    tiers = {name: draw(st.none() | KINDS | FACTORS) for name in SERVICE_TIERS}
    return PriceOverride.model_validate(draw(KINDS) | tiers)


MOMENTS = st.datetimes(datetime(2023, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC))


class TestAgainstTheSource:
    def test_every_name_finds_the_model_that_genai_prices_finds(self) -> None:
        dated = [(provider, re.sub(r"-(\d{4})-(\d\d)-(\d\d)\b", r"-\1\2\3", name)) for provider, name in NAMES]
        for name in {*NAMES, *dated}:
            found = price_list._entry(*name)
            assert is_own(*name) or (found["id"] if found else None) == source_match(*name), name
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
        found = price_list._entry(provider, text.lower())
        theirs = source_match(provider, text.upper() if upper else text)
        assert is_own(provider, text) or (found["id"] if found else None) == theirs

    @settings(max_examples=60, deadline=None)
    @given(counts=counts(), at=MOMENTS | st.just(datetime.now(UTC)))
    def test_every_model_costs_what_genai_prices_says(self, counts: TokenCounts, at: datetime) -> None:
        for source, name, price in PRICED:
            if is_own(source, name):
                continue
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
        off_peak = Rates(input=Rate(Decimal("0.135")), output=Rate(Decimal(1)))
        peak = replace(off_peak, input=Rate(Decimal("0.27")), daily=(time(0, 30), time(16, 30)))
        price = Price((off_peak, peak))
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

    @settings(max_examples=60, deadline=None)
    @given(counts=counts(), at=MOMENTS | st.just(datetime.now(UTC)))
    def test_nor_in_any_service_tier_that_it_may_become(self, counts: TokenCounts, at: datetime) -> None:
        for source, name, price in PRICED:
            for asked in price.service_tiers:
                bound = price.bound(counts.input_tokens, counts.output_tokens, at=at, service_tier=asked)
                for served in (None, asked):
                    assert price.cost(counts, at=at, service_tier=served) <= bound, (source, name, asked, served)

    @given(entry=entries(), counts=counts(), model=st.sampled_from(["claude", "gpt"]))
    def test_nor_with_any_override(self, entry: PriceOverride, counts: TokenCounts, model: str) -> None:
        known = BOOK.price("openai", "gpt-5.4")
        price = price_of(entry, model, known if entry.multiply else None)
        for asked in (None, *price.service_tiers):
            bound = price.bound(counts.input_tokens, counts.output_tokens, service_tier=asked)
            assert all(price.cost(counts, service_tier=served) <= bound for served in (None, asked))

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
OF_GPT_4O = {**OVERRIDE, "cached_input_mtok": 5}
""" `gpt-4o` has a price of cached input, which an override of it has to say too."""


class TestLookup:
    @pytest.mark.parametrize(
        ("build", "expected"),
        [
            (lambda o: book({"azure/gpt-4o": o, "azure/*": {**o, "input_mtok": 1}}), "10"),
            (lambda o: book({"azure/*": o}, {"azure/gpt-4o": "gpt-4o-mini"}), "10"),
            (lambda o: book({"openai/*": o}, {"azure/gpt-4o": "gpt-4o-mini"}), "0.15"),
            (lambda o: book({}, {"azure/gpt-4o": "anthropic/claude-sonnet-4-0"}), "3"),
            (lambda o: book({"openai/ours": o}, {"azure/gpt-4o": "openai/ours"}), "10"),
            (lambda o: book({"azure/ours": o}, {"azure/gpt-4o": "ours"}), "10"),
            (lambda o: book({}, {}, local=("azure",)), "0"),
            (lambda o: book({"azure/gpt-4o": o}, {}, local=("azure",)), "10"),
            (lambda o: book({}, {"azure/gpt-4o": "openai/gpt-4o-mini"}, local=("azure",)), "0.15"),
            (lambda o: book({"azure/GPT-4o": o, "aws/*": o}), "10"),
        ],
    )
    def test_order(self, build: Callable[[Mapping[str, object]], PriceBook], expected: str) -> None:
        assert build(OF_GPT_4O).price("azure", "gpt-4o").per_mtok()["input_mtok"] == Decimal(expected)

    def test_an_alias_prices_a_deployment(self) -> None:
        aliases = {"azure/our-deployment": "gpt-4o", "gcp/tuned": "google/gemini-2.5-pro"}
        priced = book(aliases=aliases)
        assert priced.price("azure", "our-deployment") == BOOK.price("azure", "gpt-4o")
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


class TestWhatAnOverrideLeavesOut:
    """An entry that is poorer than the known price books too little: it is refused, and says how to say it."""

    @pytest.mark.parametrize(
        ("key", "entry", "missing"),
        [
            ("openai/gpt-4o", OVERRIDE, "cached_input_mtok"),
            (
                "openai/gpt-5.4",
                {**OVERRIDE, "cached_input_mtok": 1},
                "cached_input_mtok above 272000 input tokens, input_mtok above 272000 input tokens, output_mtok above "
                "272000 input tokens",
            ),
            (
                "gcp/gemini-2.5-pro",
                {**OVERRIDE, "cached_input_mtok": 1, "input_mtok": {"base": 1, "tiers": [{"start": 100, "price": 2}]}},
                "input_mtok above 200000 input tokens",
            ),
            ("anthropic/claude-opus-4-5", OVERRIDE, "cached_input_mtok"),
            ("azure/gpt-5.6-sol", {**OVERRIDE, "cached_input_mtok": 1}, "cache_write_mtok"),
            ("openai/gpt-image-1", OVERRIDE, "input_image_mtok of this model is billed apart"),
            ("gcp/gemini-2.5-flash-image", OVERRIDE, "output_image_mtok"),
            ("openai/GPT-4o", OVERRIDE, "cached_input_mtok"),
            ("gcp/google/gemini-2.5-flash", OVERRIDE, "cached_input_mtok"),
        ],
    )
    def test_is_refused_by_name_at_the_start(self, key: str, entry: Mapping[str, object], missing: str) -> None:
        provider, _, model = key.partition("/")
        with pytest.raises(ConfigurationError) as refused:
            book({key: entry}).check({provider: [model]})
        assert missing in str(refused.value)
        assert "AI_PRICE_OVERRIDES: " + key.lower().replace("google/", "") in str(refused.value)

    def test_claudes_writes_follow_from_its_input(self) -> None:
        entry = {"input_mtok": 5, "output_mtok": 25, "cached_input_mtok": "0.5"}
        price = price_of(
            PriceOverride.model_validate(entry), "claude-opus-4-5", BOOK.price("anthropic", "claude-opus-4-5")
        )
        assert price == BOOK.price("anthropic", "claude-opus-4-5")

    def test_a_wildcard_is_checked_for_each_model_of_the_settings_and_refused_for_others_when_asked(self) -> None:
        priced = book({"openai/*": OVERRIDE})
        with pytest.raises(ConfigurationError, match="openai/\\* for openai/gpt-4o can't be used"):
            priced.check({"openai": ["gpt-4o"]})
        priced.check({"openai": ["text-embedding-3-small"]})
        with pytest.raises(ModelNotPricedError, match="its override can't be used: the known price has cached_input"):
            priced.price("openai", "gpt-4o")

    @pytest.mark.parametrize(
        ("overrides", "models", "why"),
        [
            ({"opnai/gpt-4o": OVERRIDE}, {"openai": ["gpt-4o"]}, "opnai/gpt-4o is of no configured provider"),
            ({"vllm/m": {"multiply": 2}}, {"vllm": ["m"]}, "vllm/m multiplies the price of a local provider"),
            ({"azure/ours": {"multiply": 2}}, {"azure": ["ours"]}, "azure/ours can't be used, since it multiplies a"),
        ],
    )
    def test_so_is_one_that_can_have_no_effect(
        self, overrides: Mapping[str, Mapping[str, object]], models: Mapping[str, list[str]], why: str
    ) -> None:
        with pytest.raises(ConfigurationError, match=why):
            book(overrides).check(models)

    def test_one_that_an_alias_leads_to_needs_no_provider(self) -> None:
        for key in ("openai/ours", "openai/*"):
            book({key: OVERRIDE}, {"azure/gpt-4o": "openai/ours"}).check({"azure": ["gpt-4o"]})

    def test_nor_must_it_say_what_only_an_earlier_price_had(self) -> None:
        now = Rates(input=Rate(Decimal(1)), output=Rate(Decimal(2)), starts_on=date(2026, 1, 1))
        known = Price((Rates(input=Rate(Decimal(1)), output=Rate(Decimal(2)), cached_input=Rate(Decimal(1))), now))
        assert price_of(PriceOverride.model_validate(OVERRIDE), "m", known).rates[0].input.base == 10
        later = replace(now, cached_input=Rate(Decimal(1)), starts_on=date(2999, 1, 1))
        with pytest.raises(PriceEntryError, match="cached_input_mtok"):
            price_of(PriceOverride.model_validate(OVERRIDE), "m", Price((now, later)))

    @pytest.mark.parametrize("key", ["azure/gpt-*", "*/gpt-4o", "*/*", "azure/**", "azure/*-mini"])
    def test_and_a_pattern_of_another_kind(self, key: str) -> None:
        with pytest.raises(ConfigurationError, match="must be provider/model, or provider/\\*"):
            book({key: OVERRIDE})

    @pytest.mark.parametrize("twin", ["azure/GPT-4o", "azure/ gpt-4o"])
    def test_and_two_for_one_model(self, twin: str) -> None:
        with pytest.raises(ConfigurationError, match="a second time"):
            book({"azure/gpt-4o": OF_GPT_4O, twin: OF_GPT_4O})


class TestFactors:
    def test_it_holds_for_each_kind_each_length_and_each_tier(self) -> None:
        known = BOOK.price("openai", "gpt-5.6-sol")
        price = book({"openai/gpt-5.6-sol": {"multiply": Decimal("1.1")}}).price("openai", "gpt-5.6-sol")
        long = TokenCounts(300_000, 10_000, 100_000, 50_000)
        for counts in (TokenCounts(1000, 1000, 100, 50), long):
            for tier in (None, *SERVICE_TIERS):
                assert price.cost(counts, service_tier=tier) == Decimal("1.1") * known.cost(counts, service_tier=tier)

    def test_it_multiplies_what_the_alias_says(self) -> None:
        priced = book({"azure/*": {"multiply": Decimal("1.1")}}, {"azure/eu-zone": "gpt-5.4"})
        assert priced.price("azure", "eu-zone") == BOOK.price("azure", "gpt-5.4").times(Decimal("1.1"))

    @pytest.mark.parametrize("target", ["gpt-5.4", "azure/gpt-5.4", "azure/GPT-5.4"])
    def test_but_not_twice(self, target: str) -> None:
        known = BOOK.price("azure", "gpt-5.4")
        price = book({"azure/*": {"multiply": 3}}, {"azure/ours": target}).price("azure", "ours")
        assert price == known.times(Decimal(3))
        overrides = {"azure/gpt-5.4": {"multiply": 2}, "azure/*": {"multiply": 3}}
        assert book(overrides, {"azure/ours": target}).price("azure", "ours") == known.times(Decimal(2))

    def test_an_alias_of_vertex_costs_what_its_region_does(self) -> None:
        priced = book({}, {"gcp/tuned": "google/gemini-3.8-flash"}, places={"gcp": "europe-west4"})
        assert priced.price("gcp", "tuned") == BOOK.price("gcp", "gemini-3.8-flash").times(Decimal("1.1"))

    def test_an_entrys_own_service_tiers(self) -> None:
        entry = {**OVERRIDE, "flex": {"multiply": "0.5"}, "priority": {"input_mtok": 25, "output_mtok": 70}}
        price = book({"azure/ours": entry}).price("azure", "ours")
        counts = TokenCounts(1_000_000, 0)
        assert [price.cost(counts, service_tier=tier) for tier in (None, "flex", "priority")] == [10, 5, 25]
        assert price.bound(1_000_000, 0, service_tier="flex") == 10, "flex may be served as the default tier"

    @pytest.mark.parametrize("entry", [{"multiply": 2, "input_mtok": 1}, {"multiply": 2, "flex": {"multiply": 2}}, {}])
    def test_it_stands_alone(self, entry: Mapping[str, object]) -> None:
        with pytest.raises(ValidationError):
            PriceOverride.model_validate(entry)

    def test_an_entry_without_a_tier_says_so(self) -> None:
        with pytest.raises(PriceEntryError, match="multiplies a price that nobody knows"):
            price_of(PriceOverride.model_validate({"multiply": 2}), "m", None)


class TestNames:
    """No spelling that a vendor takes for the same model passes by its override."""

    @pytest.mark.parametrize(
        ("key", "asked"),
        [
            ("openai/gpt-4o", "openai/GPT-4o"),
            ("azure/gpt-4o", "azure/Gpt-4O"),
            ("azure/Our-Deployment", "azure/our-deployment"),
            ("gcp/gemini-2.5-flash", "gcp/google/gemini-2.5-flash"),
            ("gcp/google/gemini-2.5-flash", "gcp/Gemini-2.5-flash"),
            (
                "aws/eu.amazon.nova-pro-v1:0",
                "aws/arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.amazon.nova-pro-v1:0",
            ),
            ("aws/amazon.nova-pro-v1:0", "aws/arn:aws:bedrock:us-east-1::foundation-model/amazon.nova-pro-v1:0"),
            ("vllm/Org/Model", "vllm/org/model"),
        ],
    )
    def test_an_override_holds_however_the_caller_spells_it(self, key: str, asked: str) -> None:
        entry = {"input_mtok": 777, "output_mtok": 1, "cached_input_mtok": 1}
        provider, _, model = asked.partition("/")
        assert book({key: entry}).price(provider, model).per_mtok()["input_mtok"] == 777


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
book = pricing.PriceBook(overrides={}, aliases={"azure/ours": "gpt-4o"}, local_providers=["ollama"])
assert "fusewire.budget.price_list" not in sys.modules
book.price("ollama", "any")
assert "fusewire.budget.price_list" not in sys.modules
book.price("anthropic", "claude-sonnet-4-0")
assert sys.modules["fusewire.budget.price_list"]._snapshot.cache_info().misses == 1
assert "genai_prices" not in sys.modules
"""
    path = str(price_list.SNAPSHOT.parents[2])
    subprocess.run([sys.executable, "-c", script], check=True, env={"PYTHONPATH": path})  # noqa: S603


class TestAPriceOfZero:
    ZERO: ClassVar = {"input_mtok": 0, "output_mtok": 0}

    def test_a_setting_wants_the_word_for_a_cloud_model(self) -> None:
        with pytest.raises(ConfigurationError, match=r'openai/new is a price of 0 .*\{"free": true\}'):
            book({"openai/new": self.ZERO}).check({"openai": []})
        free = book({"openai/new": {"free": True}})
        free.check({"openai": []})
        assert free.price("openai", "new").bound(1000, 1000) == 0

    def test_the_table_wants_the_word_for_a_cloud_model(self) -> None:
        with pytest.raises(PriceEntryError, match="free"):
            BOOK.accept("openai", "new", PriceOverride.model_validate(self.ZERO))
        BOOK.accept("openai", "new", PriceOverride(free=True))
        BOOK.accept("openai", "new", PriceOverride(input_mtok=Decimal(0), output_mtok=Decimal(1)))

    def test_a_local_model_needs_no_word(self) -> None:
        local = book({"ollama/*": self.ZERO})
        local.check({"ollama": ["any"]})
        local.accept("ollama", "any", PriceOverride.model_validate(self.ZERO))

    @pytest.mark.parametrize("more", [{"input_mtok": 1, "output_mtok": 1}, {"multiply": 2}, {"flex": {"multiply": 2}}])
    def test_the_word_stands_alone(self, more: dict[str, object]) -> None:
        with pytest.raises(ValidationError, match="free stands alone"):
            PriceOverride.model_validate({"free": True, **more})

    def test_the_word_is_true_or_absent(self) -> None:
        with pytest.raises(ValidationError):
            PriceOverride.model_validate({"free": False, **self.ZERO})
