"""A price is one model's, at one host, in one place: where the list has none for exactly that, there is none."""

from decimal import Decimal

import pytest

from fusewire.budget import price_list
from fusewire.budget.pricing import PriceBook
from fusewire.errors import ModelNotPricedError
from scripts import price_rows
from scripts.price_rows import AZURE, BEDROCK, BEDROCK_REGIONS, SERVICE_TIERS

GEO = "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.amazon.nova-pro-v1:0"
APPLICATION = "arn:aws:bedrock:eu-central-1:123456789012:application-inference-profile/a1b2c3"


@pytest.mark.parametrize(
    ("provider", "model", "place", "expected"),
    [
        # Azure sells other vendors' models at prices of its own (models.dev#624, genai-prices#633).
        ("azure", "DeepSeek-V3.2", None, ("0.58", "1.68")),
        ("azure", "deepseek-chat", None, None),
        ("azure", "DeepSeek-V9", None, None),
        ("azure", "grok-4", None, ("3", "15")),
        ("azure", "grok-3-mini", None, ("0.25", "1.27")),
        ("azure", "grok-9", None, None),
        ("azure", "gpt-oss-120b", None, ("0.15", "0.6")),
        ("azure", "gpt-oss-20b", None, None),
        ("azure", "Kimi-K2.6", None, ("0.95", "4")),
        ("azure", "claude-opus-4-6", None, None),
        # Two transcriptions of the vendor's list disagree, or the vendor's list has it no more.
        ("azure", "DeepSeek-R1", None, None),
        ("azure", "deepseek-r1-0528", None, None),
        ("azure", "Llama-4-Maverick-17B-128E-Instruct-FP8", None, None),
        ("aws", "meta.llama3-70b-instruct-v1:0", "eu-west-1", None),
        ("aws", "meta.llama3-8b-instruct-v1:0", "eu-west-1", None),
        ("aws", "amazon.nova-micro-v1:0", "ap-southeast-2", None),
        ("aws", "amazon.nova-lite-v1:0", "ap-southeast-7", ("0.072", "0.288")),
        ("aws", "openai.gpt-oss-120b-1:0", "ap-southeast-2", ("0.1545", "0.618")),
        ("azure", "gpt-4o", None, ("2.5", "10")),
        ("azure", "gpt-4o", "Azure Government", None),
        # A host of OpenAI's protocol that isn't OpenAI has prices of its own.
        ("openai", "gpt-oss-120b", None, None),
        # Bedrock's prices are a region's (litellm#31692, #42469, #42191, models.dev#1006, promptfoo#10593).
        ("aws", "amazon.nova-pro-v1:0", "us-east-1", ("0.8", "3.2")),
        ("aws", "us.amazon.nova-pro-v1:0", "us-west-2", ("0.8", "3.2")),
        ("aws", "eu.amazon.nova-pro-v1:0", "eu-central-1", ("1.05", "4.2")),
        ("aws", "eu.amazon.nova-pro-v1:0", "eu-west-3", ("1.18", "4.72")),
        ("aws", "apac.amazon.nova-lite-v1:0", "ap-southeast-2", ("0.063", "0.252")),
        ("aws", "amazon.nova-pro-v1:0", "us-gov-west-1", ("0.96", "3.84")),
        ("aws", "eu.meta.llama3-2-1b-instruct-v1:0", "eu-central-1", ("0.13", "0.13")),
        ("aws", "meta.llama3-70b-instruct-v1:0", "sa-east-1", ("4.45", "5.88")),
        ("aws", "meta.llama3-1-8b-instruct-v1:0", "eu-west-2", None),
        ("aws", "openai.gpt-oss-120b-1:0", "eu-west-2", ("0.23", "0.93")),
        ("aws", "amazon.nova-pro-v1:0", "me-central-1", None),
        ("aws", "amazon.nova-pro-v1:0", None, None),
        ("aws", "global.amazon.nova-pro-v1:0", "us-east-1", None),
        ("aws", GEO, "us-east-1", ("1.05", "4.2")),
        ("aws", APPLICATION, "us-east-1", None),
        # Claude costs the same in each commercial region, and a tenth less by the global profile (llmgateway#2729).
        ("aws", "eu.anthropic.claude-sonnet-4-5-20250929-v1:0", "eu-north-1", ("3.3", "16.5")),
        ("aws", "anthropic.claude-haiku-4-5-20251001-v1:0", "eu-west-1", ("1.1", "5.5")),
        ("aws", "global.anthropic.claude-sonnet-4-5-20250929-v1:0", "eu-north-1", ("3", "15")),
        ("aws", "eu.anthropic.claude-3-5-sonnet-20240620-v1:0", "eu-central-1", ("3", "15")),
        ("aws", "us-gov.anthropic.claude-sonnet-4-5-20250929-v1:0", "us-gov-west-1", None),
        ("aws", "anthropic.claude-3-haiku-20240307-v1:0", "us-gov-west-1", None),
        ("aws", "anthropic.claude-3-haiku-20240307-v1:0", "cn-north-1", None),
        ("aws", "eu.amazon.nova-2-lite-v1:0", "eu-central-1", None),
        ("aws", "us.amazon.nova-2-lite-v1:0", "us-east-1", ("0.33", "2.75")),
        ("aws", "cohere.embed-english-v3", "us-east-1", ("0.1", "0")),
        ("aws", "cohere.embed-v4:0", "us-east-1", ("0.12", "0")),
        ("aws", "cohere.embed-v4:0", "eu-west-1", None),
        # A name that begins like another's isn't that one's (claude-...-fast costs twice as much).
        ("gcp", "gemini-3.8-flash", "global", ("0.75", "3.75")),
        ("gcp", "gemini-3.8-flash-cyber", "global", None),
        ("gcp", "gemini-2.5-pro-preview-06-05", "global", ("1.25", "10")),
        ("anthropic", "claude-opus-4-6-20260115", None, ("5", "25")),
        ("anthropic", "claude-opus-4-6-fast", None, None),
        ("azure", "my-o4-mini", None, None),
        ("openai", "ft:gpt-4o-2024-08-06:acme::x1", None, ("3.75", "15")),
        # Regions of Vertex: from Gemini 3 and Claude 4.5 on a tenth more than the global endpoint.
        ("gcp", "google/gemini-3.8-flash", "europe-west4", ("0.825", "4.125")),
        ("gcp", "gemini-2.5-flash", "europe-west4", ("0.3", "2.5")),
        ("gcp", "claude-sonnet-4-5@20250929", "us-east5", ("3.3", "16.5")),
        ("gcp", "claude-sonnet-4-5@20250929", "global", ("3", "15")),
        ("gcp", "claude-opus-4@20250514", "us-east5", ("15", "75")),
        # OpenAI's regional hosts: a tenth more for models released from March 5, 2026 on ("Data residency").
        ("openai", "gpt-5.4", "eu", ("2.75", "16.5")),
        ("openai", "gpt-5-4-2026-03-05", "us", ("2.75", "16.5")),
        ("openai", "gpt-6-sol", "jp", ("2.2", "11")),
        ("openai", "gpt-5.2", "eu", ("1.75", "14")),
        ("openai", "gpt-5-2025-08-07", "eu", ("1.25", "10")),
        ("openai", "gpt-5-mini", "eu", ("0.25", "2")),
        ("openai", "o3", "eu", ("2", "8")),
        ("openai", "text-embedding-3-small", "eu", ("0.02", "0")),
    ],
)
def test_the_price_of_a_model_at_a_host_in_a_place(
    provider: str, model: str, place: str | None, expected: tuple[str, str] | None
) -> None:
    price = price_list.listed(provider, model, place)
    shown = price and price.per_mtok()
    assert (shown and (shown["input_mtok"], shown["output_mtok"])) == (expected and tuple(map(Decimal, expected)))


def test_a_region_costs_more_in_each_kind_and_length() -> None:
    at_home, in_europe = (price_list.listed("openai", "gpt-5.6-sol", place) for place in (None, "eu"))
    assert at_home is not None
    assert in_europe == at_home.times(Decimal("1.1"))


def test_cached_input_keeps_its_part_of_the_input_in_each_region() -> None:
    price = price_list.listed("aws", "amazon.nova-pro-v1:0", "eu-west-1")
    assert price is not None
    assert price.per_mtok()["cached_input_mtok"] == Decimal("0.92") / 4


@pytest.mark.parametrize(
    ("provider", "model", "tier", "expected"),
    [
        ("openai", "gpt-5.5", "priority", "12.5"),
        ("openai", "gpt-4o", "priority", "4.25"),
        ("openai", "gpt-5-mini", "flex", "0.125"),
        ("openai", "gpt-4o", "flex", None),
        ("openai", "gpt-5.4-nano", "priority", None),
        ("azure", "gpt-5.4", "priority", "5"),
        ("azure", "gpt-4o", "priority", None),
        ("aws", "amazon.nova-pro-v1:0", "priority", "1.4"),
        ("aws", "amazon.nova-lite-v1:0", "flex", None),
        ("gcp", "gemini-3.8-flash", "priority", None),
        ("anthropic", "claude-opus-4-6", "priority", None),
    ],
)
def test_the_price_of_a_service_tier(provider: str, model: str, tier: str, expected: str | None) -> None:
    price = price_list.listed(provider, model, {"aws": "us-east-1", "gcp": "global"}.get(provider))
    assert price is not None
    rates = {name: sets[-1].input.base for name, sets in price.service_tiers.items()}
    assert rates.get(tier) == (expected and Decimal(expected))  # type: ignore[call-overload]


def test_each_row_of_our_own_is_in_the_list() -> None:
    for provider, rows in (("azure", AZURE), ("aws", BEDROCK)):
        for name in (each for key, row in rows.items() for each in (key, *row.names)):
            assert price_list.listed(provider, name, "us-east-1" if provider == "aws" else None), name
    for model, regions in BEDROCK_REGIONS.items():
        for region in ",".join(regions).split(","):
            assert price_list.listed("aws", model, region), (model, region)
    for provider, models in SERVICE_TIERS.items():
        ids = {entry["id"] for each in (provider, "openai") for entry in price_list._snapshot()[each]["models"]}
        assert models.keys() <= ids, provider


@pytest.mark.parametrize(
    ("provider", "model", "place", "line"),
    [
        ("azure", "grok-9", None, """AI_PRICE_OVERRIDES='{"azure/grok-9": {"input_mtok": 1, "output_mtok": 2}}'"""),
        ("azure", "our-deployment", None, """AI_PRICE_ALIASES='{"azure/our-deployment": "gpt-4o"}'"""),
        ("aws", "meta.llama3-1-8b-instruct-v1:0", "eu-west-2", "there is no price of it in eu-west-2"),
        ("azure", "gpt-4o", "Azure Government", "there is no price of it in Azure Government"),
    ],
)
def test_the_refusal_holds_the_line_to_set(provider: str, model: str, place: str | None, line: str) -> None:
    places = {} if place is None else {provider: place}
    with pytest.raises(ModelNotPricedError) as refused:
        PriceBook(overrides={}, aliases={}, local_providers=(), places=places).price(provider, model)
    assert line in refused.value.message


SOURCES = {name: value for name, value in vars(price_rows).items() if name.isupper() and isinstance(value, str)}


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_says_whether_it_is_the_vendors_own(name: str) -> None:
    """Its address, a copy of its price list, or who wrote the prices down and whether others have the same."""
    source = SOURCES[name]
    if "second-hand: " in source and not source.startswith("https://"):
        assert "checked" in source
    else:
        assert "https://" in source or source.startswith("AWS's price list, offer ")


def test_each_row_has_such_a_source() -> None:
    assert {row.source for row in (*AZURE.values(), *BEDROCK.values())} <= set(SOURCES.values())
