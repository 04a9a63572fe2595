"""What a key may ask for."""

import pytest

from fusewire.ai.permissions import classification_of
from fusewire.errors import InvalidRequestError


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, "internal"),
        ("public", "public"),
        ("Confidential", "confidential"),
        (" INTERNAL ", "internal"),
    ],
)
def test_classification_is_read_from_its_header(header: str | None, expected: str) -> None:
    assert classification_of(header) == expected


@pytest.mark.parametrize("header", ["", " ", "secret", "confidential, public", "confidentiel", "x" * 1000])
def test_a_classification_is_never_guessed(header: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        classification_of(header)
    assert caught.value.param == "x-fusewire-classification"
    assert len(caught.value.message) < 200
