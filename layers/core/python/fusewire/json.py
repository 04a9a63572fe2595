"""JSON whose money stays exact: a Decimal is written as a number in plain notation, never by way of a float."""

import json
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
_DECODER: Final = json.JSONDecoder(parse_float=Decimal)


def dumps(value: object) -> str:
    """One line of JSON in UTF-8; whatever JSON doesn't know (dates, ids) as its `str()`."""
    encoded: str = _ENCODER.encode(value)
    return encoded


def written(value: object) -> object:
    """`value` as JSON already: what is a part of many texts is put into words once, and `dumps` takes it over."""
    return simplejson.RawJSON(dumps(value))


def loads(text: str | bytes) -> Any:  # noqa: ANN401 - JSON is anything
    """What a JSON text says, numbers with a fraction as Decimal. :raises ValueError: for text that isn't JSON"""
    return _DECODER.decode(text if isinstance(text, str) else text.decode())
