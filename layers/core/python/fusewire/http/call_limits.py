"""What a request's headers say of its own limits: the whole output cap or nothing, and the most that it may cost."""

import re
from decimal import Decimal
from typing import Final

from fusewire.errors import InvalidRequestError
from fusewire.http.headers import MAX_COST, OUTPUT_CAP

MAX_COST_PATTERN: Final = r"^[0-9]{1,9}([.][0-9]{1,12})?$"


def wants_whole_cap(header: str | None) -> bool:
    """Whether `x-fusewire-output-cap` says `strict`; unset or `fit`, it doesn't.

    :raises InvalidRequestError: for any other word
    """
    word = (header or "fit").strip().lower()
    if word not in ("fit", "strict"):
        raise InvalidRequestError(f"{OUTPUT_CAP} must be strict or fit, not {word[:40]!r}.", param=OUTPUT_CAP)
    return word == "strict"


def max_cost_of(header: str | None) -> Decimal | None:
    """`x-fusewire-max-cost-usd` in USD; None where it is unset.

    :raises InvalidRequestError: for anything but a plain decimal number
    """
    if header is None:
        return None
    if re.match(MAX_COST_PATTERN, header.strip()) is None:
        raise InvalidRequestError(
            f"{MAX_COST} must be a number of USD such as 0.25, not {header.strip()[:40]!r}.", param=MAX_COST
        )
    return Decimal(header.strip())
