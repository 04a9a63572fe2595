"""A price list of genai-prices' format, read as entries: `prices/data.json` of https://github.com/pydantic/genai-prices.

The format is an array of providers, each with `id` and `models`; a model has `id`, `match` and `prices`, which are one
set or several with a `constraint`, of which the last that holds counts.
"""

import re
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import simplejson

from cli.api import LOOPBACK, ApiError

_SECONDS: Final = 30
_MAX_BYTES: Final = 50_000_000
_SOURCE_IDS: Final = {"gcp": "google"}
_NAMES: Final = {
    "input_mtok": "input_mtok",
    "output_mtok": "output_mtok",
    "cache_read_mtok": "cached_input_mtok",
    "cache_write_mtok": "cache_write_mtok",
    "cache_write_1h_mtok": "cache_write_1h_mtok",
    "input_image_mtok": "input_image_mtok",
    "output_image_mtok": "output_image_mtok",
}
_NEVER_SENT: Final = {
    "input_audio_mtok",
    "cache_audio_read_mtok",
    "input_video_mtok",
    "web_searches_kcount",
    "storage_searches_kcount",
}
"""What the gateway never asks of a text model."""
_REGION: Final = re.compile(r"(?:us|us-gov|eu|apac|jp|au|ca|global)\.")
"""What a Bedrock inference profile's id begins with: prices differ by it."""


class NoPriceError(Exception):
    """The source has no price that can be taken over; `str()` says why."""


def read(source: str) -> list[Any]:
    """The providers of a file, or of an https URL.

    :raises ApiError: when it can't be read, or is no price list
    """
    content = _fetched(source) if "://" in source else _file(source)
    try:
        providers = simplejson.loads(content, use_decimal=True)
    except ValueError:
        providers = None
    if not isinstance(providers, list) or not all(isinstance(p, dict) and "models" in p for p in providers):
        raise ApiError(f"{source} can't be used: it must be an array of providers with models, as genai-prices has it")
    return providers


def entry_of(providers: Sequence[Mapping[str, Any]], provider: str, model: str, today: date) -> dict[str, Any]:
    """What the source says of a model at this very host, as an entry of `AI_PRICE_OVERRIDES`.

    :raises NoPriceError: when it says nothing that can be taken over
    """
    wanted = _SOURCE_IDS.get(provider, provider)
    name = model.lower().removeprefix("google/") if provider == "gcp" else model.lower()
    models = [m for p in providers if p.get("id") == wanted for m in p["models"]]
    found = next((m for m in models if _matches(m["match"], name)), None)
    if found is None:
        raise NoPriceError("it isn't in the source")
    region = _REGION.match(name)
    if provider == "aws" and region and not str(found["id"]).lower().startswith(region[0]):
        raise NoPriceError("the source has no price of this region")
    return _entry(_active(found.get("prices") or [], today), model)


def _active(prices: Any, today: date) -> Mapping[str, Any]:  # noqa: ANN401 - one set, or several
    if isinstance(prices, dict):
        return prices
    chosen: Mapping[str, Any] | None = None
    for each in prices:
        constraint = each.get("constraint") or {}
        if "start_time" in constraint:
            raise NoPriceError("it differs by the time of day, which an entry can't say")
        starts = date.fromisoformat(constraint["start_date"]) if "start_date" in constraint else date.min
        if chosen is None or starts <= today:
            chosen = each["prices"]
    if chosen is None:
        raise NoPriceError("the source has no price of it")
    return chosen


def _entry(prices: Mapping[str, Any], model: str) -> dict[str, Any]:
    given = {name: amount for name, amount in prices.items() if amount is not None}
    if unknown := sorted(given.keys() - _NAMES.keys() - _NEVER_SENT):
        raise NoPriceError(f"it has prices that an entry can't say: {', '.join(unknown)}")
    entry = {ours: given[theirs] for theirs, ours in _NAMES.items() if theirs in given}
    if "input_mtok" not in entry or ("output_mtok" not in entry and "embed" not in model.lower()):
        raise NoPriceError("the source has no price of its tokens")
    entry.setdefault("output_mtok", Decimal(0))
    if not any(_amounts(entry)):
        raise NoPriceError('it is a price of 0: add {"free": true} by hand where that is meant')
    return entry


def _amounts(entry: Mapping[str, Any]) -> Iterator[Decimal | int]:
    for amount in entry.values():
        if isinstance(amount, dict):
            yield amount["base"]
            yield from (tier["price"] for tier in amount["tiers"])
        else:
            yield amount


def _matches(clause: Mapping[str, Any], name: str) -> bool:
    [(how, text)] = clause.items()
    match how:
        case "or":
            return any(_matches(part, name) for part in text)
        case "and":
            return all(_matches(part, name) for part in text)
        case "equals":
            return name == str(text).lower()
        case "starts_with":
            return name.startswith(str(text).lower())
        case "ends_with":
            return name.endswith(str(text).lower())
        case "contains":
            return str(text).lower() in name
        case "regex":
            return re.search(text, name) is not None
    raise ApiError(f"the source matches names by {how!r}, which this release doesn't know")


def today() -> date:
    """The day of UTC, in which the source's dates are."""
    return datetime.now(UTC).date()


def _file(source: str) -> bytes:
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise ApiError(f"{source} can't be read ({error.strerror})") from None


def _fetched(url: str) -> bytes:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise ApiError(f"{url} can't be used: a price list comes over https")
    try:
        with urllib.request.urlopen(url, timeout=_SECONDS) as answer:  # noqa: S310 - https, see above
            content: bytes = answer.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise ApiError(f"{url} can't be fetched ({reason})") from None
    if len(content) > _MAX_BYTES:
        raise ApiError(f"{url} can't be used: it is larger than {_MAX_BYTES:,} bytes")
    return content
