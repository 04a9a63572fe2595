"""Make `fusewire/budget/prices.json` from the installed genai-prices package.

    python -m scripts.snapshot_prices           rewrites the file
    python -m scripts.snapshot_prices --check   exits 1 when the file isn't what this would write

Importing genai-prices costs a cold start 0.2 to 0.35 s; the file holds what fusewire needs of its data and
nothing of its code: names and prices of text models, with their dates, hours and long-context tiers. A price
key that this script doesn't know stops it, because a price skipped in silence is money that nobody books.
`scripts/price_rows.py` adds what genai-prices lacks, and takes out what it has for another host or region.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from typing import Final, TypeAlias, cast

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

from scripts.price_rows import (
    AZURE,
    BEDROCK,
    BEDROCK_REGIONS,
    DISPUTED_NAMES,
    FALLBACKS,
    SERVICE_TIERS,
    WITHDRAWN,
    Row,
    cached,
)

SNAPSHOT: Final = Path(__file__).parents[1] / "layers/core/python/fusewire/budget/prices.json"

VENDORS: Final = ("azure", "aws", "google", "openai", "anthropic")
"""genai-prices' ids."""

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

NEVER_CHEAPER: Final = {"cache_image_read_mtok"}
"""What an override needn't say: it prices cached input of every kind at the dearest kind of input."""

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
    """A model; without `prices` when it has none: it stays listed, lest its name match a later model.

    `window` is the context window, in tokens, rounded as vendors round it.
    `bills` are then the kinds of token that it bills apart, in the words of `AI_PRICE_OVERRIDES` where that has some.
    """
    entry: dict[str, Json] = {"id": source.id, "match": clause(source.match)}
    conditional = [ConditionalPrice(prices=source.prices)] if isinstance(source.prices, ModelPrice) else source.prices
    prices: list[Json] = []
    for each in conditional:
        amounts = token_prices(source.id, each.prices)
        if amounts is None:
            apart = {key for each in conditional for key, value in vars(each.prices).items() if value is not None}
            apart &= OTHER_MEDIA - NEVER_CHEAPER
            return {**entry, "bills": sorted(apart)} if apart else entry
        prices.append({**condition(each.constraint), **amounts})
    if source.context_window is not None:
        entry["window"] = source.context_window
    return {**entry, "prices": prices} if prices else entry


def own_entry(name: str, row: Row) -> dict[str, Json]:
    """A model of `price_rows`."""
    names: list[Json] = [f"={each}" for each in (name, *row.names)]
    given = {"input": row.input, "output": row.output, "cached_input": row.cached_input}
    prices: dict[str, Json] = {
        kind: amount if row.above is None else {"base": amount, "tiers": [[row.above, _twice(amount)]]}
        for kind, amount in given.items()
        if amount is not None
    }
    return {"id": name, "match": names[0] if len(names) == 1 else {"any": names}, "prices": [prices]}


def _twice(amount: str) -> str:
    return format(2 * Decimal(amount), "f")


def with_regions(entry: dict[str, Json], regions: Mapping[str, tuple[str, str]]) -> dict[str, Json]:
    """The same entry, with its prices in other regions."""
    (prices,) = cast(list[dict[str, str]], entry["prices"])
    found: dict[str, Json] = {}
    for names, (of_input, of_output) in regions.items():
        row = {"input": of_input, "output": of_output}
        if "cached_input" in prices:
            row["cached_input"] = cached(of_input, prices["input"], prices["cached_input"])
        found.update({name: [row] for name in names.split(",")})
    return {**entry, "regions": dict(sorted(found.items()))}


def models_of(provider: Provider) -> list[dict[str, Json]]:
    """A vendor's models as the file has them: genai-prices', and those of `price_rows` before them."""
    own = {"azure": AZURE, "aws": BEDROCK}.get(provider.id, {})
    disputed: list[Json] = [f"*{name}" for name in DISPUTED_NAMES.get(provider.id, ())]
    entries = [own_entry(name, row) for name, row in own.items()]
    if disputed:
        entries.append({"id": "disputed", "match": {"any": disputed}})
    for model in provider.models:
        if model.id in own:
            raise UnknownDataError(f"{provider.id}/{model.id}: genai-prices has it by now; take it out of price_rows")
        entry = model_entry(model)
        if model.id in WITHDRAWN.get(provider.id, {}):
            entry.pop("prices", None)
        if provider.id == "aws" and model.id in BEDROCK_REGIONS:
            entry = with_regions(entry, BEDROCK_REGIONS[model.id])
        entries.append(entry)
    return entries


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
    for name in VENDORS:
        fallback = json.dumps(FALLBACKS.get(name, ()))
        tiers = json.dumps(SERVICE_TIERS.get(name, {}), separators=(",", ":"))
        lines.append(f'{json.dumps(name)}: {{"fallback": {fallback}, "service_tiers": {tiers}, "models": [')
        lines.append(",\n".join(json.dumps(each, separators=(",", ":")) for each in models_of(sources[name])))
        lines.append("]}" if name == VENDORS[-1] else "]},")
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
