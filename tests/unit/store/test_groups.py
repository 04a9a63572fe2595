"""Which statements are sent together, when, and what each of them gets."""

import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import pytest

from fusewire.budget.wire import RESERVE, SETTLE
from fusewire.errors import LedgerUnavailableError
from fusewire.store.db import Statement
from fusewire.store.groups import Groups
from tests.support.patience import PATIENCE_SECONDS

SETTINGS: Final[Any] = object()


def argument(number: int, settings: object = SETTINGS) -> Any:  # noqa: ANN401 - any call's
    return {"settings": settings, "entry": number}


class Postgres:
    """Answers a statement with its number; number 0 once it is let."""

    def __init__(self) -> None:
        self.sent: list[list[int]] = []
        self.alone: list[Mapping[str, Any]] = []
        self.lets = threading.Event()
        self.comes = threading.Event()
        self.refuses = False
        self.is_gone: Exception | None = None
        self.leaves: set[int] = set()
        self.answer_was_lost = False
        self.slots = 0

    def together(self, sent: Mapping[str, Any], seconds: float) -> Mapping[str, Any] | None:
        numbers = [call["reserve"]["entry"] for call in sent["calls"]]
        self.sent.append(numbers)
        if self.is_gone is not None:
            raise self.is_gone
        if self.refuses:
            return None
        results = [None if n in self.leaves else {"entry": n} for n in numbers]
        return {"results": results, "slots": self.slots} | ({"resent": True} if self.answer_was_lost else {})

    def one(self, statement: Statement[Any, Any], sent: Mapping[str, Any], seconds: float) -> Any:  # noqa: ANN401
        self.sent.append([sent["entry"]])
        self.alone.append(sent)
        if sent["entry"] == 0:
            self.comes.set()
            assert self.lets.wait(PATIENCE_SECONDS)
        return {"entry": sent["entry"]}


@pytest.fixture
def postgres() -> Postgres:
    return Postgres()


@pytest.fixture
def groups(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> Groups:
    monkeypatch.setattr("fusewire.store.groups._HELD_UP_SECONDS", PATIENCE_SECONDS)
    return Groups(postgres.one, postgres.together)


def call(groups: Groups, number: int) -> object:
    return groups.call(RESERVE, argument(number), 1.0)


def together(groups: Groups, postgres: Postgres, *arguments: Any) -> list[Future[Any]]:  # noqa: ANN401 - any call's
    """The first is under way when the others come, one after the other."""
    with ThreadPoolExecutor(len(arguments)) as pool:
        calls = [pool.submit(groups.call, RESERVE, arguments[0], 1.0)]
        assert postgres.comes.wait(PATIENCE_SECONDS)
        for number, each in enumerate(arguments[1:], 1):
            calls.append(pool.submit(groups.call, RESERVE, each, 1.0))
            deadline = time.monotonic() + PATIENCE_SECONDS
            while len(groups._collected) < number:
                assert time.monotonic() < deadline
        postgres.lets.set()
    return calls


def test_what_comes_while_one_is_under_way_is_sent_together_and_each_gets_its_own(
    groups: Groups, postgres: Postgres
) -> None:
    calls = together(groups, postgres, *map(argument, range(5)))
    assert postgres.sent == [[0], [1, 2, 3, 4]]
    assert [call.result() for call in calls] == [{"entry": number} for number in range(5)]


def test_one_that_comes_alone_goes_at_once(groups: Groups, postgres: Postgres) -> None:
    postgres.lets.set()
    for number in range(3):
        assert call(groups, number) == {"entry": number}
    assert postgres.sent == [[0], [1], [2]]


def test_a_group_has_sixteen_calls_at_most(groups: Groups, postgres: Postgres) -> None:
    calls = together(groups, postgres, *map(argument, range(40)))
    assert [len(numbers) for numbers in postgres.sent] == [1, 16, 16, 7]
    assert [call.result() for call in calls] == [{"entry": number} for number in range(40)]


def test_calls_under_other_settings_are_in_another_group(groups: Groups, postgres: Postgres) -> None:
    others = [argument(n, "others") for n in (3, 4)]
    together(groups, postgres, argument(0), argument(1), *others, argument(2))
    assert postgres.sent == [[0], [1, 2], [3, 4]]


@pytest.mark.parametrize("answer_was_lost", [False, True])
def test_what_a_group_leaves_is_sent_alone_as_if_sent_before_where_it_was(
    groups: Groups, postgres: Postgres, answer_was_lost: bool
) -> None:
    """What was sent before is told again; what wasn't must not be."""
    postgres.leaves, postgres.answer_was_lost = {2}, answer_was_lost
    calls = together(groups, postgres, *map(argument, range(4)))
    assert postgres.sent == [[0], [1, 2, 3], [2]]
    assert postgres.alone[-1].get("resent", False) is answer_was_lost
    assert [call.result() for call in calls] == [{"entry": number} for number in range(4)]


def test_a_group_that_postgres_refuses_is_sent_one_by_one(groups: Groups, postgres: Postgres) -> None:
    postgres.refuses = True
    calls = together(groups, postgres, *map(argument, range(3)))
    assert [call.result() for call in calls] == [{"entry": number} for number in range(3)]
    assert sorted(postgres.sent[2:]) == [[1], [2]]
    assert not any("resent" in sent for sent in postgres.alone)


def test_where_postgres_is_gone_each_is_told_why(groups: Groups, postgres: Postgres) -> None:
    cause = OSError()
    postgres.is_gone = LedgerUnavailableError("OperationalError")
    postgres.is_gone.__cause__ = cause
    _, *calls = together(groups, postgres, *map(argument, range(4)))
    errors = [call.exception() for call in calls]
    assert [(type(error), error and error.__cause__) for error in errors] == [(LedgerUnavailableError, cause)] * 3
    assert len(set(map(id, errors))) == 3


def test_one_without_an_answer_holds_up_nobody_for_long(postgres: Postgres) -> None:
    groups = Groups(postgres.one, postgres.together)
    with ThreadPoolExecutor(1) as pool:
        stuck = pool.submit(call, groups, 0)
        assert postgres.comes.wait(PATIENCE_SECONDS)
        assert call(groups, 1) == {"entry": 1}
        assert not stuck.done()
        postgres.lets.set()
        assert stuck.result(PATIENCE_SECONDS) == {"entry": 0}


def test_where_the_room_is_in_slots_each_goes_alone_for_a_while(
    groups: Groups, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    postgres.slots = 8
    together(groups, postgres, *map(argument, range(3)))
    assert not groups.takes(RESERVE, argument(3))
    later = time.monotonic() + 11
    monkeypatch.setattr("fusewire.store.groups.time.monotonic", lambda: later)
    assert groups.takes(RESERVE, argument(3))


@pytest.mark.parametrize(
    ("statement", "sent", "takes"),
    [
        (RESERVE, {"entry": {}}, True),
        (RESERVE, {"entry": {}, "wait": {"max_per_key": 1}, "prices": {}, "downgrade": {}}, True),
        (RESERVE, {"entry": {}, "wait": {"holds": True}}, False),
        (RESERVE, {"entry": {}, "settlement": {}}, False),
        (RESERVE, {"entry": {}, "settings_snapshot": {}}, False),
        (RESERVE, {"entry": {}, "resent": True}, False),
        (SETTLE, {"settlement": {"id": "1"}, "health_update": {}}, True),
        (SETTLE, {"settlement": {"id": "1"}, "resent": True}, False),
        (SETTLE, {"settlement": {"id": "1", "allowance": 5}}, False),
        (SETTLE, {"settlement": {"id": "1", "refusal": {}}}, False),
    ],
)
def test_what_may_be_sent_with_others(
    groups: Groups, statement: Statement[Any, Any], sent: Mapping[str, Any], takes: bool
) -> None:
    assert groups.takes(statement, sent) is takes


def test_a_sender_that_is_stopped_leaves_the_others_to_themselves(groups: Groups, postgres: Postgres) -> None:
    def stopped(sent: Mapping[str, Any], seconds: float) -> Mapping[str, Any]:
        raise SystemExit

    groups._together = stopped
    calls = together(groups, postgres, *map(argument, range(4)))
    errors = [call.exception() for call in calls]
    assert sorted(type(error).__name__ for error in errors if error) == ["SystemExit"]
    assert sum(error is None for error in errors) == 3
