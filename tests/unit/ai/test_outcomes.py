"""What a caller is told of a vendor's refusal: the vendor's own words, as far as a screen can show them."""

import pytest

from fusewire.ai.failures import CONSEQUENCES, FailureKind, ProviderFailure
from fusewire.ai.outcomes import caller_error, printable
from fusewire.errors import ContentPolicyError, InvalidRequestError, RequestTooLargeError

MAX_LENGTH = 1000

HOSTILE = {
    "a terminal's colours and its title": ("\x1b[31mred\x1b[0m \x1b]0;title\x07", "[31mred [0m ]0;title"),
    "a line that looks like another answer": ('no\r\n\r\nHTTP/1.1 200 OK\n{"a": 1}', 'no HTTP/1.1 200 OK {"a": 1}'),
    "NUL and backspaces": ("se\x00cret\x08\x08", "se cret"),
    "a tab and many spaces": ("a\t  b", "a b"),
    "letters that turn the direction of others": ("a\u202eb\u2066c", "a b c"),
    "a line's and a paragraph's separator": ("a\u2028b\u2029c\x85d", "a b c d"),
    "no character at all": ("a\ud800b", "a b"),
    "other languages": ("Ungültig: 温度は0から2", "Ungültig: 温度は0から2"),
    "nothing": ("\x00\x1b\n", ""),
}


@pytest.mark.parametrize(("sent", "shown"), HOSTILE.values(), ids=HOSTILE)
def test_a_vendors_words_are_one_line_of_printable_characters(sent: str, shown: str) -> None:
    assert printable(sent, MAX_LENGTH) == shown
    assert shown.isprintable()


@pytest.mark.parametrize("length", [0, 1, 9, 10, 11, 10**6])
def test_a_vendors_words_are_cut_and_it_shows(length: int) -> None:
    shown = printable("x" * length, 10)
    assert shown == ("x" * length if length <= 10 else "x" * 9 + "…")


def test_a_megabyte_of_control_characters_is_not_read_to_its_end() -> None:
    assert printable("\x1b" * 39 + "a" + "b" * 10**6, 10) == "a"


SAID = {kind for kind, consequence in CONSEQUENCES.items() if not consequence.fail_over}


@pytest.mark.parametrize("kind", sorted(SAID))
def test_a_caller_reads_the_vendors_words_and_fields_only_so(kind: FailureKind) -> None:
    failure = ProviderFailure(
        kind, "our own words", caller_message="bad\x1b[2J " + "y" * 5000, param="messages[0]\n" + "z" * 5000
    )
    error = caller_error(failure)
    assert isinstance(error, InvalidRequestError | RequestTooLargeError | ContentPolicyError)
    assert error.message.startswith("bad [2J yyy") and error.message.endswith("y…")
    assert len(error.message) == MAX_LENGTH
    assert error.param is not None
    assert error.param.startswith("messages[0] zzz") and len(error.param) == 120
    assert (error.message + error.param).isprintable()


def test_without_a_vendors_words_a_caller_reads_ours() -> None:
    error = caller_error(ProviderFailure(FailureKind.REJECTED_REQUEST, "our own words"))
    assert (error.message, error.param) == ("our own words", None)
