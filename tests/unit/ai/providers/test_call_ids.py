"""Ids of calls as a vendor takes them: valid, each only once, and a result's is its call's."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusewire.ai.providers.call_ids import CallIds


@given(st.lists(st.text(max_size=80)), st.sampled_from([None, 9, 64]))
def test_each_call_has_a_valid_id_of_its_own_and_its_result_the_same(given_ids: list[str], longest: int | None) -> None:
    ids = CallIds(re.compile(r"[^a-zA-Z0-9_-]"), longest)
    sent = []
    for call_id in given_ids:
        sent.append(ids.of_call(call_id))
        assert ids.of_result(call_id) == sent[-1]
    assert len(set(sent)) == len(sent)
    for call_id in sent:
        assert re.fullmatch(r"[a-zA-Z0-9_-]+", call_id)
        assert longest is None or len(call_id) <= longest


@pytest.mark.parametrize(
    ("given_ids", "longest", "sent"),
    [
        (["call_1", "call_1", "call_1"], None, ["call_1", "call_1_2", "call_1_3"]),
        (["call:1", "call 1"], None, ["call_1", "call_1_2"]),
        (["", ""], None, ["_", "__2"]),
        (["abcdefgh", "abcdefgi"], 6, ["abcdef", "abcd_2"]),
    ],
)
def test_an_id_changes_no_more_than_it_must(given_ids: list[str], longest: int | None, sent: list[str]) -> None:
    ids = CallIds(re.compile(r"[^a-zA-Z0-9_-]"), longest)
    assert [ids.of_call(call_id) for call_id in given_ids] == sent


def test_a_result_without_a_call_has_a_valid_id_too() -> None:
    assert CallIds(re.compile(r"[^a-z]"), 3).of_result("a:b:c") == "a_b"
