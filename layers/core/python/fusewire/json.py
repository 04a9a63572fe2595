"""JSON whose money stays exact: a Decimal is written as a number in plain notation, never by way of a float."""

import json
import math
import re
from decimal import Decimal
from typing import Any, Final

import simplejson


def _exact(value: object) -> object:
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"{value} is no JSON number")
        text = format(value, "f")
        return simplejson.RawJSON(text.rstrip("0").rstrip(".") if "." in text else text)
    return str(value)


_ENCODER: Final = simplejson.JSONEncoder(
    default=_exact,
    use_decimal=False,
    ensure_ascii=False,
    separators=(",", ":"),
    allow_nan=False,
)
_STRING: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_REPEATED: Final = re.compile(r'Detected duplicate key "(.*)" at line \d+ column \d+', re.DOTALL)
_DECODER: Final = json.JSONDecoder(parse_float=Decimal)


def dumps(value: object) -> str:
    """One line of JSON in UTF-8; whatever JSON doesn't know (dates, ids) as its `str()`."""
    encoded: str = _ENCODER.encode(value)
    return encoded


def is_finite(value: object) -> bool:
    """Whether JSON can say every number in it: an infinity or NaN, which `json.loads` takes, no other reader knows."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(is_finite, value.values()))
    return not isinstance(value, list) or all(map(is_finite, value))


def preencode(value: object) -> object:
    """`value` as JSON already: what is a part of many texts is put into words once, and `dumps` takes it over."""
    return simplejson.RawJSON(dumps(value))


def loads(text: str | bytes) -> Any:  # noqa: ANN401 - JSON is anything
    """What a JSON text says, numbers with a fraction as Decimal. :raises ValueError: for text that isn't JSON"""
    return _DECODER.decode(text if isinstance(text, str) else text.decode())


def holds_more_values(body: bytes, most: int) -> bool:
    """Whether a body of JSON holds more than so many values, found out before it is read.

    A million tiny values fit into a body, and each takes a hundred times its length once it is an object, and as much
    again when something is wrong with it: 6 MB were seen to take 6 GB. What is in strings takes its length only. Takes
    time in proportion to the body's length, whatever it holds.
    """
    # Counted with what is in strings first, which nearly always settles it.
    return _marks(body) > most and _marks(_STRING.sub(b"", body)) > most


def _marks(text: bytes) -> int:
    return text.count(b",") + text.count(b"[") + text.count(b"{")


def repeated_key(text: bytes) -> str | None:
    """The name that an object within this JSON text holds twice; None where there is none, or no JSON.

    Of two values, a parser takes the first, another the last (RFC 8259, 4): what one checks, the next may not see.
    """
    import jiter  # OpenAI's SDK needs it as well; the others don't

    try:
        jiter.from_json(text, catch_duplicate_keys=True, cache_mode="none")
    except ValueError as error:
        found = _REPEATED.match(str(error))
        return found[1] if found else None
    return None
