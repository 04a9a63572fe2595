"""Money leaves as a plain JSON number with every digit it has."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusewire.json import dumps, loads, preencode


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0", "0"),
        ("0.10", "0.1"),
        ("1.000", "1"),
        ("100", "100"),
        ("1E+3", "1000"),
        ("1E-12", "0.000000000001"),
        ("-0.5", "-0.5"),
        ("0E-20", "0"),
        ("0.30000000000000004", "0.30000000000000004"),
        ("12345678901234567890.12345678901234567890123", "12345678901234567890.12345678901234567890123"),
    ],
)
def test_a_decimal_is_a_number_in_plain_notation(amount: str, text: str) -> None:
    assert dumps(Decimal(amount)) == text
    assert dumps({"a": [Decimal(amount)]}) == f'{{"a":[{text}]}}'


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**15), max_value=10**15, places=40))
def test_every_decimal_comes_back_as_itself(amount: Decimal) -> None:
    assert json.loads(f"[{dumps(amount)}]", parse_float=Decimal, parse_int=Decimal) == [amount]


@given(
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=10)
)
def test_everything_else_is_ordinary_json(value: object) -> None:
    text = dumps(value)
    assert json.loads(text) == value
    assert "\n" not in text


@pytest.mark.parametrize("text", ['{"cost":0.30000000000000004,"n":3}', b'{"cost":0.30000000000000004,"n":3}'])
def test_what_is_read_is_exact(text: str | bytes) -> None:
    assert loads(text) == {"cost": Decimal("0.30000000000000004"), "n": 3}


@pytest.mark.parametrize("text", ["", "{", b"\xff", '{"a":1} x'])
def test_what_is_not_json_is_an_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"Expecting|Extra|decode"):
        loads(text)


def test_text_stays_readable() -> None:
    assert dumps({"text": '日本 "é"\n\u2028'}) == '{"text":"日本 \\"é\\"\\n\u2028"}'


def test_what_json_does_not_know_is_its_text() -> None:
    result = [datetime(2026, 11, 1, tzinfo=UTC), date(2026, 11, 1), UUID(int=1)]
    assert dumps(result) == '["2026-11-01 00:00:00+00:00","2026-11-01","00000000-0000-0000-0000-000000000001"]'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Decimal("NaN"), Decimal("Infinity")])
def test_what_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="JSON"):
        dumps({"cost": value})


@given(
    st.recursive(st.none() | st.integers() | st.text() | st.decimals(allow_nan=False, allow_infinity=False), st.lists)
)
def test_what_is_written_once_reads_the_same_within_another_value(value: object) -> None:
    assert dumps({"a": preencode(value)}) == dumps({"a": value})
