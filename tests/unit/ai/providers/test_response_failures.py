"""What a status means: by the table, by a vendor's differences, and for those that nobody lists; `Retry-After`."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusewire.ai.failures import FailureKind
from fusewire.ai.providers.response_failures import BY_STATUS, meaning_of, retry_after_seconds

OWN = {404: (FailureKind.REJECTED_REQUEST, "is different"), 424: (FailureKind.GATEWAY_ERROR, "is its own")}


@pytest.mark.parametrize("status", BY_STATUS)
def test_the_table_holds_where_a_vendor_says_nothing_else(status: int) -> None:
    assert meaning_of(status, {}) == BY_STATUS[status]


@pytest.mark.parametrize("status", OWN)
def test_a_vendors_own_meaning_comes_first(status: int) -> None:
    assert meaning_of(status, OWN) == OWN[status]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (0, FailureKind.MALFORMED_ANSWER),
        (204, FailureKind.MALFORMED_ANSWER),
        (301, FailureKind.MALFORMED_ANSWER),
        (418, FailureKind.SERVER_ERROR),
        (499, FailureKind.GATEWAY_ERROR),
        (500, FailureKind.SERVER_ERROR),
        (520, FailureKind.GATEWAY_ERROR),
        (524, FailureKind.GATEWAY_ERROR),
    ],
)
def test_a_status_that_nobody_lists(status: int, kind: FailureKind) -> None:
    assert meaning_of(status, {})[0] is kind


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": " 7 "}, 7),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "NaN"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "9" * 400}, None),
        ({"retry-after-ms": "nan"}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, None),
        ({"retry-after": "Wed, 99 Oct 2099 07:28:00 GMT"}, None),
    ],
)
def test_retry_after_is_read_or_left(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(headers) == seconds


def test_retry_after_may_be_a_date() -> None:
    there = datetime.now(UTC) + timedelta(minutes=5)
    seconds = retry_after_seconds({"retry-after": format_datetime(there, usegmt=True)})
    assert seconds is not None
    assert abs(seconds - (there.timestamp() - time.time())) < 2


@given(text=st.text(max_size=40), name=st.sampled_from(["retry-after", "retry-after-ms"]))
def test_retry_after_never_crashes(text: str, name: str) -> None:
    seconds = retry_after_seconds({name: text})
    assert seconds is None or 0 <= seconds < float("inf")
