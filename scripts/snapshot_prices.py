"""Make `fusewire/budget/prices.json` from the installed genai-prices package.

    python -m scripts.snapshot_prices           rewrites the file
    python -m scripts.snapshot_prices --check   exits 1 when the file isn't what this would write

Importing genai-prices costs a cold start 0.2 to 0.35 s; the file holds what fusewire needs of its data and
nothing of its code: names and prices of text models, with their dates, hours and long-context tiers. A price
key that this script doesn't know stops it, because a price skipped in silence is money that nobody books.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Final, TypeAlias

from genai_prices.data import providers as source_providers
from genai_prices.types import (
    ClauseAnd,
    ClauseContains,
    ClauseEndsWith,
    ClauseEquals,
    ClauseOr,
    ClauseRegex,
    ClauseStartsWith,
    ConditionalPrice,
    MatchLogic,
    ModelInfo,
    ModelPrice,
    Provider,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
)

SNAPSHOT: Final = Path(__file__).parents[1] / "layers/core/python/fusewire/budget/prices.json"

VENDORS: Final = ("azure", "aws", "google", "openai", "anthropic")
"""genai-prices' ids. The providers that these fall back to are added: Azure sells the models of several."""

TOKEN_PRICES: Final = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cached_input",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
}

NEVER_SENT: Final = {
    "input_audio_mtok",
    "cache_audio_read_mtok",
    "input_video_mtok",
    "web_searches_kcount",
    "storage_searches_kcount",
}
"""What the gateway never asks of a text model: it takes no audio, no video and no vendor-side searches."""

OTHER_MEDIA: Final = {
    "output_audio_mtok",
    "output_image_mtok",
    "output_video_mtok",
    "input_image_mtok",
    "cache_image_read_mtok",
    "audio_hours",
    "input_audio_hours",
    "input_mchars",
    "input_text_messages_kcount",
}
"""A model with one of these bills some tokens at a rate that a plain count of tokens doesn't show. It gets no
price: better refused than booked too cheaply. Embedding models are exempt: only text is sent to them."""

Json: TypeAlias = "str | int | Sequence[Json] | Mapping[str, Json]"

_SIMPLE_CLAUSES: Final = {
    ClauseEquals: ("=", "equals"),
    ClauseStartsWith: ("^", "starts_with"),
    ClauseEndsWith: ("$", "ends_with"),
    ClauseContains: ("*", "contains"),
}


class UnknownDataError(Exception):
    """genai-prices holds something new, and a person has to decide what it means for fusewire."""


def clause(source: MatchLogic) -> Json:
    """A match clause: an operator's character and its text in lower case, or `any` or `all` of several."""
    if isinstance(source, ClauseOr):
        return {"any": [clause(part) for part in source.or_]}
    if isinstance(source, ClauseAnd):
        return {"all": [clause(part) for part in source.and_]}
    if isinstance(source, ClauseRegex):
        return f"~{source.regex}"
    operator, field = _SIMPLE_CLAUSES[type(source)]
    return operator + str(getattr(source, field)).lower()


def amount(source: Decimal | TieredPrices) -> Json:
    """USD per million tokens, as decimal strings; each tier is (start in input tokens, price)."""
    if isinstance(source, Decimal):
        return format(source, "f")
    tiers: list[Json] = [[tier.start, format(tier.price, "f")] for tier in source.tiers]
    return {"base": format(source.base, "f"), "tiers": tiers}


def _utc(source: time) -> str:
    moment = datetime.combine(date(1970, 1, 1), source, source.tzinfo or UTC)
    return moment.astimezone(UTC).time().isoformat()


def condition(source: StartDateConstraint | TimeOfDateConstraint | None) -> dict[str, Json]:
    """When a price applies, in UTC: `from` a day on, `between` two times of the day, or always."""
    if source is None:
        return {}
    if isinstance(source, StartDateConstraint):
        return {"from": source.start_date.isoformat()}
    return {"between": [_utc(source.start_time), _utc(source.end_time)]}


def token_prices(model: str, source: ModelPrice) -> dict[str, Json] | None:
    """One set of a text model's prices, or None when its tokens can't be priced by counting them."""
    given = {key: value for key, value in vars(source).items() if value is not None}
    if unknown := given.keys() - TOKEN_PRICES.keys() - NEVER_SENT - OTHER_MEDIA:
        raise UnknownDataError(f"{model}: genai-prices has prices this script doesn't know: {sorted(unknown)}")
    is_embedding = "output_mtok" not in given
    if "input_mtok" not in given or (not is_embedding and given.keys() & OTHER_MEDIA):
        return None
    return {ours: amount(given[theirs]) for theirs, ours in TOKEN_PRICES.items() if theirs in given}


def model_entry(source: ModelInfo) -> dict[str, Json]:
    """A model; without `prices` when it has none: it stays listed, lest its name match a later model."""
    entry: dict[str, Json] = {"id": source.id, "match": clause(source.match)}
    conditional = [ConditionalPrice(prices=source.prices)] if isinstance(source.prices, ModelPrice) else source.prices
    prices: list[Json] = []
    for each in conditional:
        amounts = token_prices(source.id, each.prices)
        if amounts is None:
            return entry
        prices.append({**condition(each.constraint), **amounts})
    return {**entry, "prices": prices} if prices else entry


def provider_ids(sources: Mapping[str, Provider]) -> list[str]:
    fallbacks = [name for vendor in VENDORS for name in sources[vendor].fallback_model_providers or ()]
    return list(dict.fromkeys([*VENDORS, *fallbacks]))


def render() -> str:
    """The file's text: one model a line, so that a price change reads as one line of a diff."""
    sources = {provider.id: provider for provider in source_providers}
    header: dict[str, Json] = {
        "source": "genai-prices (https://github.com/pydantic/genai-prices)",
        "version": version("genai-prices"),
        "licence": "MIT",
        "unit": "USD per million tokens",
        "made_by": "python -m scripts.snapshot_prices",
    }
    lines = ["{", *(f"{json.dumps(key)}: {json.dumps(value)}," for key, value in header.items())]
    lines.append('"providers": {')
    ids = provider_ids(sources)
    for name in ids:
        fallback = json.dumps(sources[name].fallback_model_providers or [])
        lines.append(f'{json.dumps(name)}: {{"fallback": {fallback}, "models": [')
        models = [json.dumps(model_entry(m), separators=(",", ":")) for m in sources[name].models]
        lines.append(",\n".join(models))
        lines.append("]}" if name == ids[-1] else "]},")
    return "\n".join([*lines, "}}", ""])


def main(arguments: Sequence[str] | None = None, *, snapshot: Path = SNAPSHOT) -> int:
    parser = argparse.ArgumentParser(description="Make the price snapshot from the installed genai-prices package.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when the snapshot is stale")
    check: bool = parser.parse_args(arguments).check
    text = render()
    current = snapshot.read_text("utf-8") if snapshot.exists() else None
    if text == current:
        sys.stdout.write(f"{snapshot.name} is up to date.\n")
        return 0
    if check:
        sys.stdout.write(f"{snapshot} is stale. Run: python -m scripts.snapshot_prices\n")
        return 1
    snapshot.write_text(text, "utf-8")
    sys.stdout.write(f"Wrote {snapshot} ({len(text.encode())} bytes).\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
