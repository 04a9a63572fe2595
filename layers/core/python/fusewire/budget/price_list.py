"""What the shipped price list says: `prices.json`, made by `scripts/snapshot_prices.py` and read at the first question.

A price is one model's, at one vendor, in one place. Where the list has none for exactly that, there is none: neither
another vendor's, nor another region's, nor that of a model whose name begins alike. A place is what the provider says
of the server that the settings name: a Bedrock or Vertex region, OpenAI's regional host, Azure's cloud.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, time
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Final, NotRequired, TypeAlias, TypedDict, cast

from fusewire.budget.model_names import name_of, region_of
from fusewire.budget.price import Price, Rate, Rates, with_hour_writes
from fusewire.price_overrides import ServiceTier

SNAPSHOT: Final = Path(__file__).with_name("prices.json")

# The snapshot's shape; scripts/snapshot_prices.py says what each field holds.

Clause: TypeAlias = "str | dict[str, list[Clause]]"


class _Tiered(TypedDict):
    base: str
    tiers: list[tuple[int, str]]


_Amount: TypeAlias = str | _Tiered
PriceEntry = TypedDict(
    "PriceEntry",
    {
        "from": str,
        "between": list[str],
        "input": _Amount,
        "output": _Amount,
        "cached_input": _Amount,
        "cache_write": _Amount,
        "cache_write_1h": _Amount,
    },
    total=False,
)


class ModelEntry(TypedDict):
    id: str
    match: Clause
    prices: NotRequired[list[PriceEntry]]
    regions: NotRequired[dict[str, list[PriceEntry]]]
    bills: NotRequired[list[str]]
    window: NotRequired[int]


class _ProviderEntry(TypedDict):
    fallback: list[str]
    service_tiers: dict[str, dict[ServiceTier, str]]
    models: list[ModelEntry]


_SOURCE_IDS: Final = {"gcp": "google"}
"""genai-prices' names for our providers, where they differ."""

_BILLED_BESIDE_TOKENS: Final = re.compile("-search-|deep-research")
"""These models search by themselves, which is billed beside the tokens: no price of tokens is theirs."""

_COMPACT_DATE: Final = re.compile(r"-(20\d{2})([0-9]{2})([0-9]{2})(?=-|:|$)")

_ROUNDED_MILLION: Final = 2**20
"""What a million may stand for in a window's size, which the list rounds: Gemini's are 2**20 tokens and GPT-4.1's
1,047,576. A thousand stands for 1,024 then, which is less."""

_REGIONAL: Final = Decimal("1.1")
"""Of OpenAI's regional hosts ("Data residency") and of Vertex's regions ("Pricing", and Anthropic's "Pricing" for
Claude there); Bedrock's regional prices are in the list."""

_BEFORE_RESIDENCY: Final = re.compile(
    r"(?:ft:)?(?:gpt-3|gpt-4|gpt-5(?:[.-][0-3](?!\d)|-(?!\d)|-20\d\d|$)|chatgpt|o[134](?!\d)|text-|codex-mini|computer-use"
    r"|ada|babbage|curie|davinci)"
)
"""OpenAI's models of before March 5, 2026, which cost the same at every host ("Data residency")."""

_GEMINI: Final = re.compile(r"gemini-(\d+)")
_CLAUDE_VERSION: Final = re.compile(r"claude-(?:[a-z]+-)?(\d{1,2})(?!\d)(?:[-.](\d{1,2})(?!\d))?")
_FIRST_REGIONAL_GEMINI: Final = 3
_FIRST_REGIONAL_CLAUDE: Final = (4, 5)

_GEOGRAPHY: Final = re.compile(r"(us-gov|us|eu|apac|jp|au|ca|in|global)\.")
_BEDROCK_HOME: Final = frozenset({"us-east-1", "us-east-2", "us-west-2"})
"""Where the list's prices without a region hold ("Amazon Bedrock pricing")."""
_OTHER_PARTITIONS: Final = ("us-gov", "cn-")

_BEFORE: Final = re.compile(
    r"(?:regional\.|(?:us-gov|us|eu|apac|jp|au|ca|in|global)\.)?"
    r"(?:(?:publishers/)?(?:google|anthropic|openai)/(?:models/)?)?"
    r"(?:(?:amazon|anthropic|cohere|deepseek|google|meta|mistral|moonshot|moonshotai|nvidia|openai|qwen|writer|zai)\.)?"
)
_AFTER: Final = re.compile(
    r"(?:-v\d+(?::\d+)?|:\d+|@(?:\d{8}|\d{3}|default|latest)|-\d{8}|-\d{4}-\d\d-\d\d|-\d{3,4}|-latest"
    r"|-(?:preview|exp)(?:-\d\d-\d{2,4})?)\Z"
)
"""What a vendor adds to a model's name to say which version of that very model."""


@cache
def _snapshot() -> dict[str, _ProviderEntry]:
    return cast(dict[str, _ProviderEntry], json.loads(SNAPSHOT.read_bytes())["providers"])


def listed(provider: str, model: str, place: str | None = None) -> Price | None:
    """What the list says that `model` costs at `provider`, None where it doesn't say."""
    name = name_of(provider, model)
    entry = _entry_of(provider, name)
    if entry is None or "prices" not in entry:
        return None
    if "embed" not in name and any("output" not in prices for prices in entry["prices"]):
        return None  # only an embedding has no output to pay for; on another model its price is missing
    if provider == "aws":
        return _at_bedrock(entry, name, region_of(model) or place)
    if provider == "azure" and place is not None:
        return None  # the list has the prices of Azure's public cloud
    price = _price(_SOURCE_IDS.get(provider, provider), entry, entry["prices"])
    return price.times(_REGIONAL) if _is_dearer(provider, name, place) else price


def entry_id(provider: str, model: str) -> str | None:
    """The list's name for a model; None where it doesn't know it."""
    entry = _entry_of(provider, name_of(provider, model))
    return entry["id"] if entry is not None else None


def bills(provider: str, model: str) -> frozenset[str]:
    """The kinds of token that the list bills apart and that a usage doesn't tell from text, in an override's words."""
    entry = _entry_of(provider, name_of(provider, model))
    return frozenset(entry.get("bills", ())) if entry is not None else frozenset()


def listed_window(provider: str, model: str) -> int | None:
    """The most tokens that the list's context window of `model` can stand for.

    None where it has none, and where it has prices for longer inputs too.
    """
    entry = _entry_of(provider, name_of(provider, model))
    window = None if entry is None else entry.get("window")
    if entry is None or window is None or _longest_tier(entry) >= window:
        return None
    return -(-window * _ROUNDED_MILLION // 1_000_000)


def _longest_tier(entry: ModelEntry) -> int:
    """The input tokens from which on the last of its long-context tiers counts; 0 without any."""
    rates = [rate for prices in entry.get("prices", ()) for rate in _rates(prices).kinds().values()]
    return max((start for rate in rates for start, _ in rate.tiers), default=0)


def _entry_of(provider: str, name: str) -> ModelEntry | None:
    entry = None if _BILLED_BESIDE_TOKENS.search(name) else _entry(_SOURCE_IDS.get(provider, provider), name)
    return entry if entry is not None and _is_named(entry, name) else None


def _is_dearer(provider: str, name: str, place: str | None) -> bool:
    """Whether this model costs a tenth more in this place."""
    if place is None or (provider == "gcp" and place == "global"):
        return False
    if provider == "openai":
        return _BEFORE_RESIDENCY.match(name) is None
    if provider != "gcp":
        return False
    if found := _GEMINI.search(name):
        return int(found[1]) >= _FIRST_REGIONAL_GEMINI
    if found := _CLAUDE_VERSION.search(name):
        return (int(found[1]), int(found[2] or 0)) >= _FIRST_REGIONAL_CLAUDE
    return False


def _at_bedrock(entry: ModelEntry, name: str, region: str | None) -> Price | None:
    """A geography's profile costs what the region costs that is called, and Claude the same in each of them."""
    if region in entry.get("regions", {}):
        return _price("aws", entry, entry["regions"][region or ""])
    geography = found[1] if (found := _GEOGRAPHY.match(name)) else None
    if geography == "global":
        return _price("aws", entry, entry["prices"]) if entry["id"].startswith("global.") else None
    if region is None or geography == "us-gov" or region.startswith(_OTHER_PARTITIONS):
        return None
    everywhere = entry["id"].startswith("regional.")
    if geography is not None and everywhere and _names_geographies(entry):
        everywhere = any(f"{geography}." in text for text in texts(entry["match"]))
        return _price("aws", entry, entry["prices"]) if everywhere else None
    return _price("aws", entry, entry["prices"]) if everywhere or region in _BEDROCK_HOME else None


def _names_geographies(entry: ModelEntry) -> bool:
    return any(_GEOGRAPHY.match(text) for text in texts(entry["match"]))


def _is_named(entry: ModelEntry, name: str) -> bool:
    """Whether it is this very model, and not one whose name merely begins or ends alike."""
    if name.startswith("ft:") or ".ft-" in name:
        return True  # a fine-tuned model's name has its owner's words in it
    known = {_core(text) for text in (entry["id"].casefold(), *texts(entry["match"]))}
    return _core(name) in known


@cache
def _core(name: str) -> str:
    name = _BEFORE.sub("", name, count=1)
    while shorter := _AFTER.sub("", name):
        if shorter == name:
            break
        name = shorter
    return name


def texts(clause: Clause) -> Iterator[str]:
    """The names in a match clause, in small letters; a regular expression names none."""
    if isinstance(clause, dict):
        for parts in clause.values():
            for part in parts:
                yield from texts(part)
    elif clause[0] != "~":
        yield clause[1:]


def _entry(source: str, name: str) -> ModelEntry | None:
    """The first model that matches `name` (in lower case); as it is first, then with its date dashed."""
    return _match(source, name) or _match(source, _COMPACT_DATE.sub(_dashed, name))


def _match(source: str, name: str) -> ModelEntry | None:
    providers = _snapshot()
    if source not in providers:
        return None
    lists = (providers[each]["models"] for each in (source, *providers[source]["fallback"]))
    return next((model for models in lists for model in models if _matches(model["match"], name)), None)


def _matches(clause: Clause, name: str) -> bool:
    if isinstance(clause, dict):
        if "any" in clause:
            return any(_matches(part, name) for part in clause["any"])
        return all(_matches(part, name) for part in clause["all"])
    text = clause[1:]
    match clause[0]:
        case "=":
            return name == text
        case "^":
            return name.startswith(text)
        case "$":
            return name.endswith(text)
        case "*":
            return text in name
    return re.search(text, name) is not None


def _dashed(found: re.Match[str]) -> str:
    """`-20241120` as `-2024-11-20`, if that is a day."""
    try:
        return f"-{date(*map(int, found.groups()))}"
    except ValueError:
        return found[0]


def _price(source: str, entry: ModelEntry, prices: Sequence[PriceEntry]) -> Price:
    """:param source: whose service tiers count, though it has the model's prices from another's list"""
    sets = tuple(with_hour_writes(entry["id"], _rates(each)) for each in prices)
    factors = _snapshot()[source]["service_tiers"].get(entry["id"], {})
    return Price(sets, {tier: tuple(r.times(Decimal(factor)) for r in sets) for tier, factor in factors.items()})


def _rates(entry: PriceEntry) -> Rates:
    rates = Rates(
        input=_rate(entry["input"]),
        output=_rate(entry.get("output", "0")),
        cached_input=_rate(entry["cached_input"]) if "cached_input" in entry else None,
        cache_write=_rate(entry["cache_write"]) if "cache_write" in entry else None,
        cache_write_1h=_rate(entry["cache_write_1h"]) if "cache_write_1h" in entry else None,
    )
    return replace(
        rates,
        starts_on=date.fromisoformat(entry["from"]) if "from" in entry else None,
        daily=_times(entry["between"]) if "between" in entry else None,
    )


def _rate(amount: _Amount) -> Rate:
    if isinstance(amount, str):
        return Rate(Decimal(amount))
    return Rate(Decimal(amount["base"]), tuple((start, Decimal(rate)) for start, rate in amount["tiers"]))


def _times(between: list[str]) -> tuple[time, time]:
    start, end = between
    return time.fromisoformat(start), time.fromisoformat(end)
