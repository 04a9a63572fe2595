"""Which statements are sent together, when, and what each of them gets."""

import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final

import pytest

from fusewire.budget.wire import RESERVE, SETTLE
from fusewire.errors import LedgerUnavailableError
from fusewire.store.db import Statement, StatementRefusedError
from fusewire.store.groups import _HELD_UP_SECONDS, Groups, _Call, _Group
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
    return grouping(postgres)


def grouping(postgres: Postgres, *, connections: int = 4) -> Groups:
    return Groups(postgres.one, postgres.together, connections=connections, connect_seconds=0)


def call(groups: Groups, number: int) -> object:
    return groups.call(RESERVE, argument(number), PATIENCE_SECONDS)


def together(groups: Groups, postgres: Postgres, *arguments: Any) -> list[Future[Any]]:  # noqa: ANN401 - any call's
    """The first is under way when the others come, one after the other."""
    with ThreadPoolExecutor(len(arguments)) as pool:
        calls = [pool.submit(groups.call, RESERVE, arguments[0], PATIENCE_SECONDS)]
        assert postgres.comes.wait(PATIENCE_SECONDS)
        for number, each in enumerate(arguments[1:], 1):
            calls.append(pool.submit(groups.call, RESERVE, each, PATIENCE_SECONDS))
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
    groups = grouping(postgres)
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


@pytest.fixture
def stuck(groups: Groups, postgres: Postgres) -> Iterator[ThreadPoolExecutor]:
    """Threads beside one whose statement has been without an answer for long."""
    with ThreadPoolExecutor(8) as pool:
        pool.submit(call, groups, 0)
        assert postgres.comes.wait(PATIENCE_SECONDS)
        [group] = groups._under_way
        groups._under_way[:] = [replace(group, began=group.began - PATIENCE_SECONDS)]
        yield pool
        postgres.lets.set()


def collected(groups: Groups, calls: int) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(groups._collected) < calls:
        assert time.monotonic() < deadline


def test_one_without_an_answer_holds_up_none_of_those_that_come_one_after_the_other(
    groups: Groups, postgres: Postgres, stuck: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    lets, comes = threading.Event(), threading.Event()

    def alone(statement: Statement[Any, Any], sent: Mapping[str, Any], seconds: float) -> Any:  # noqa: ANN401
        if sent["entry"] == 1:
            comes.set()
            assert lets.wait(PATIENCE_SECONDS)
        return {"entry": sent["entry"]}

    monkeypatch.setattr(groups, "_alone", alone)
    first = stuck.submit(call, groups, 1)
    assert comes.wait(PATIENCE_SECONDS)
    second = stuck.submit(call, groups, 2)
    collected(groups, 1)
    lets.set()
    assert first.result(PATIENCE_SECONDS / 2) == {"entry": 1}
    assert second.result(PATIENCE_SECONDS / 2) == {"entry": 2}


def test_no_more_are_under_way_than_there_are_connections(postgres: Postgres) -> None:
    groups = grouping(postgres, connections=1)
    with ThreadPoolExecutor(8) as pool:
        stuck = pool.submit(call, groups, 0)
        assert postgres.comes.wait(PATIENCE_SECONDS)
        others = [pool.submit(call, groups, number) for number in (1, 2, 3)]
        collected(groups, 3)
        with pytest.raises(LedgerUnavailableError, match="every connection is in use") as raised:
            groups.call(RESERVE, argument(4), 0.2)
        assert not raised.value.may_be_done
        assert len(groups._collected) == 3
        postgres.lets.set()
        assert [each.result(PATIENCE_SECONDS) for each in (stuck, *others)] == [{"entry": n} for n in range(4)]
    assert [sorted(sent) for sent in postgres.sent] == [[0], [1, 2, 3]]


def test_a_call_that_is_under_way_sends_no_others(postgres: Postgres) -> None:
    groups = grouping(postgres)
    under_way, other = (_Call(RESERVE, argument(n), PATIENCE_SECONDS) for n in (1, 2))
    groups._collected = [other]
    groups._go_on(under_way)
    assert groups._collected == [other] and postgres.sent == []


def test_who_may_give_up_first_sends_for_nobody_who_waits_for_longer(postgres: Postgres) -> None:
    """A settlement that follows its answer, beside a reservation: its environment's next event waits for it."""
    groups = grouping(postgres, connections=1)
    comes, lets, senders, threads = threading.Event(), threading.Event(), [], {}

    def together(sent: Mapping[str, Any], seconds: float) -> Mapping[str, Any]:
        senders.append((threading.get_ident(), seconds))
        comes.set()
        assert lets.wait(PATIENCE_SECONDS)
        return {"results": [{} for _ in sent["calls"]]}

    def of(statement: Statement[Any, Any], number: int, seconds: float) -> object:
        threads[number] = threading.get_ident()
        return groups.call(statement, argument(number), seconds)

    groups._together = together
    with ThreadPoolExecutor(4) as pool:
        pool.submit(call, groups, 0)
        assert postgres.comes.wait(PATIENCE_SECONDS)
        late = pool.submit(of, SETTLE, 1, PATIENCE_SECONDS / 2)
        collected(groups, 1)
        others = [pool.submit(of, RESERVE, 2, PATIENCE_SECONDS)]
        collected(groups, 2)
        others.append(pool.submit(of, RESERVE, 3, PATIENCE_SECONDS / 2))
        collected(groups, 3)
        postgres.lets.set()
        assert comes.wait(PATIENCE_SECONDS)
        for each in groups._under_way[0].calls:
            each.began -= 3 * PATIENCE_SECONDS
        error = late.exception(PATIENCE_SECONDS)
        assert isinstance(error, LedgerUnavailableError) and error.may_be_done
        time.sleep(2 * _HELD_UP_SECONDS)
        assert not any(other.done() for other in others), "the release of a reservation would overtake it"
        lets.set()
        assert [other.result(PATIENCE_SECONDS) for other in others] == [{}, {}]
    assert senders == [(threads[2], PATIENCE_SECONDS)]


def test_a_call_whose_time_is_over_is_sent_by_nobody(postgres: Postgres) -> None:
    """From the moment at which it is decided: its caller is told that nothing of it may be done."""
    groups = grouping(postgres, connections=0)
    late, other = (_Call(RESERVE, argument(n), PATIENCE_SECONDS) for n in (1, 2))
    late.began -= PATIENCE_SECONDS
    groups._collected = [late, other]
    with pytest.raises(LedgerUnavailableError, match="every connection is in use"):
        groups._go_on(late)
    assert groups._collected == [other]


def test_a_statement_that_is_refused_by_itself_is_told_so(postgres: Postgres) -> None:
    groups, refused = grouping(postgres), StatementRefusedError("NumericValueOutOfRange")

    def refuse(*_: object) -> object:
        raise refused

    groups._alone = refuse
    with pytest.raises(StatementRefusedError) as raised:
        call(groups, 1)
    assert raised.value is refused


@pytest.mark.parametrize("sends", [False, True])
def test_a_caller_that_is_stopped_while_it_waits_leaves_nothing_behind(
    groups: Groups, stuck: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch, sends: bool
) -> None:
    class Stopped:
        def get(self, timeout: float) -> None:
            raise KeyboardInterrupt

        def put(self, _: None) -> None:
            pass

    stopped = _Call(RESERVE, argument(1), PATIENCE_SECONDS)
    stopped.woken = Stopped()  # type: ignore[assignment] # all that is asked of it
    monkeypatch.setattr("fusewire.store.groups._Call", lambda *_: stopped)
    monkeypatch.setattr(groups, "_choose", lambda _: None)
    under_way = list(groups._under_way)
    if sends:
        monkeypatch.setattr(groups, "_send", Stopped().get)
        stopped.sends = _Group([stopped])
        groups._under_way.append(stopped.sends)
    with pytest.raises(KeyboardInterrupt):
        groups.call(RESERVE, argument(1), PATIENCE_SECONDS)
    assert groups._collected == [] and groups._under_way == under_way


def test_an_argument_that_is_no_json_fails_its_own_call_alone(groups: Groups, postgres: Postgres) -> None:
    def no_json(sent: Mapping[str, Any], seconds: float) -> Mapping[str, Any]:
        raise ValueError("NaN")

    groups._together = no_json
    calls = together(groups, postgres, *map(argument, range(4)))
    assert [each.result() for each in calls] == [{"entry": number} for number in range(4)]


def test_what_a_group_may_have_sent_may_be_done_whatever_becomes_of_it_alone(
    groups: Groups, postgres: Postgres
) -> None:
    postgres.leaves, postgres.answer_was_lost = {1}, True
    one = groups._alone

    def gone(statement: Statement[Any, Any], sent: Mapping[str, Any], seconds: float) -> Any:  # noqa: ANN401
        if "resent" in sent:
            raise LedgerUnavailableError("OperationalError", may_be_done=False)
        return one(statement, sent, seconds)

    groups._alone = gone
    _, lost, _ = together(groups, postgres, *map(argument, range(3)))
    error = lost.exception()
    assert isinstance(error, LedgerUnavailableError) and error.may_be_done
