"""JSON whose money stays exact: a Decimal is written as a number in plain notation, never by way of a float."""

from decimal import Decimal

import simplejson


def _exact(value: object) -> object:
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"{value} is no JSON number")
        text = format(value, "f")
        return simplejson.RawJSON(text.rstrip("0").rstrip(".") if "." in text else text)
    return str(value)


def dumps(value: object) -> str:
    """One line of JSON in UTF-8; whatever JSON doesn't know (dates, ids) as its `str()`."""
    return simplejson.dumps(
        value,
        default=_exact,
        use_decimal=False,
        ensure_ascii=False,
        separators=(",", ":"),
        allow_nan=False,
    )
