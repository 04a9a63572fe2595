"""Whether the processors have room, by the system's counters."""

import time

import pytest

from local import processors
from local.processors import Processors


class Counters:
    """The system's, for two processors, and its clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = self.busy = 0.0
        monkeypatch.setattr(processors, "_seconds", lambda: (self.busy, 2 * self.now))
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def pass_by(self, seconds: float, share: float) -> None:
        self.now += seconds
        self.busy += 2 * seconds * share


@pytest.fixture
def counters(monkeypatch: pytest.MonkeyPatch) -> Counters:
    return Counters(monkeypatch)


@pytest.mark.parametrize(("share", "room"), [(0.0, True), (0.85, True), (0.95, False), (1.0, False)])
def test_it_is_what_was_left_over_since_the_last_reading(counters: Counters, share: float, room: bool) -> None:
    asked = Processors()
    counters.pass_by(3600, 0.5)
    asked.have_room()
    counters.pass_by(0.2, share)
    assert asked.have_room() is room


def test_a_moment_is_too_short_to_tell(counters: Counters) -> None:
    asked = Processors()
    counters.pass_by(0.2, 1.0)
    assert not asked.have_room()
    counters.pass_by(0.05, 0.0)
    assert not asked.have_room()
    counters.pass_by(0.06, 0.0)
    assert asked.have_room()


def test_counters_that_stand_still_say_nothing_new(counters: Counters, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Processors()
    counters.pass_by(0.2, 1.0)
    assert not asked.have_room()
    monkeypatch.setattr(processors, "_seconds", lambda: (counters.busy, 0.4))
    counters.pass_by(0.2, 0.0)
    assert not asked.have_room()


def test_this_machine_tells() -> None:
    busy, total = processors._seconds()
    assert 0 < busy < total
    assert Processors().count >= 1
