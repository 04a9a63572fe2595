"""How time is divided over a call's attempts."""

from math import inf

import pytest

from fusewire.ai.time_left import TimeLeft


@pytest.mark.parametrize(("others", "share"), [(0, 1000), (3, 250)])
def test_an_attempt_gets_an_even_share_of_what_is_left(others: int, share: float) -> None:
    times = TimeLeft.of(1000, 10_000).timeouts(others)
    assert times.first == pytest.approx(share, abs=5)
    assert times.total == pytest.approx(1000, abs=5)
    assert times.connect == 5


def test_where_silence_is_cut_the_first_content_comes_before_and_the_last_may_come_later() -> None:
    times = TimeLeft.of(890, 285).timeouts(2)
    assert times.first == pytest.approx(285 / 3, abs=5)
    assert times.total == pytest.approx(890, abs=5)


def test_a_stream_may_be_silent_for_no_longer_than_its_limit() -> None:
    times = TimeLeft.of(898, 898, max_silence=300).timeouts(1)
    assert (times.first, times.silence) == (300, 300)
    times = TimeLeft.of(898, 898, max_silence=300).timeouts(3)
    assert times.first == pytest.approx(898 / 4, abs=5)
    assert times.silence == 300
    assert TimeLeft.of(898, 898, max_silence=2).timeouts(3).connect == 2
    assert TimeLeft.of(898, 898).timeouts(1).silence == inf


def test_a_share_shorter_than_the_connect_limit_is_the_connect_limit() -> None:
    times = TimeLeft.of(4, 4).timeouts(1)
    assert times.connect == times.first


def test_the_limit_that_ended_an_attempt_is_named() -> None:
    over = TimeLeft.of(0, 10)
    assert "AI_REQUEST_TIMEOUT_SECONDS" in str(over.timeout_error("openai", is_read_timeout=True))
    over = TimeLeft.of(100, 0)
    assert "API Gateway" in str(over.timeout_error("openai", is_read_timeout=False))
    silent = TimeLeft.of(100, 100, max_silence=2)
    silent.timeouts(0)
    assert "AI_SILENCE_TIMEOUT_SECONDS" in str(silent.timeout_error("openai", is_read_timeout=True))
    assert silent.timeout_error("openai", is_read_timeout=False) is None
    shared = TimeLeft.of(100, 100, max_silence=300)
    shared.timeouts(3)
    assert shared.timeout_error("openai", is_read_timeout=True) is None
