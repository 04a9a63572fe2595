"""A request's headers that limit it."""

from decimal import Decimal

import pytest

from fusewire.errors import InvalidRequestError
from fusewire.http.call_limits import max_cost_of, wants_whole_cap


@pytest.mark.parametrize(("header", "strict"), [(None, False), ("fit", False), ("strict", True), (" Strict ", True)])
def test_the_whole_cap_is_asked_for_by_a_word(header: str | None, strict: bool) -> None:
    assert wants_whole_cap(header) is strict


@pytest.mark.parametrize("header", ["", "yes", "strict, strict", "1"])
def test_another_word_is_refused(header: str) -> None:
    if header == "":
        assert wants_whole_cap(header) is False
        return
    with pytest.raises(InvalidRequestError) as caught:
        wants_whole_cap(header)
    assert caught.value.param == "x-fusewire-output-cap"


@pytest.mark.parametrize(
    ("header", "usd"), [(None, None), ("0.25", Decimal("0.25")), ("0", Decimal(0)), (" 12 ", Decimal(12))]
)
def test_the_most_that_it_may_cost_is_a_plain_number(header: str | None, usd: Decimal | None) -> None:
    assert max_cost_of(header) == usd


@pytest.mark.parametrize("header", ["", "-1", "1e3", "NaN", "Infinity", ".5", "1,5", "0.25, 0.25", "$1", "٣", "1\n"])
def test_anything_else_is_refused(header: str) -> None:
    if header == "1\n":
        assert max_cost_of(header) == 1
        return
    with pytest.raises(InvalidRequestError) as caught:
        max_cost_of(header)
    assert caught.value.param == "x-fusewire-max-cost-usd"
