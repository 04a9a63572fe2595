"""Who is put to work, and when one more is, by workers that only say what they are told to do.

With one processor a few are two.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest
import uvloop

from local import pool
from local.asgi import DisconnectedError
from local.invocation import FunctionNotStartedError, Invocation
from local.pool import Pool
from local.processors import Processors
from local.worker import Worker


class Answer:
    """In the place of a worker: starts and ends what it does when the test says so."""

    def __init__(self, capacity: int = 1) -> None:
        self.starts = 0
        self.capacity = capacity
        self.room = 0
        self.all: list[Invocation] = []
        self.on_ready: Callable[[Answer, bool], None]
        self.on_exit: Callable[[Answer, str | None], None]

    def start(self) -> None:
        self.starts += 1

    @property
    def at(self) -> Invocation | None:
        return self.all[0] if self.all else None

    @property
    def busy(self) -> int:
        return len(self.all)

    def handle(self, invocation: Invocation) -> None:
        assert self.room, "no more events than it takes"
        self.room -= 1
        self.all.append(invocation)

    def started(self) -> None:
        for number in range(self.capacity):
            self.room += 1
            self.on_ready(self, number == 0)

    def done(self) -> None:
        if self.all:
            del self.all[0]
            self.room += 1
        self.on_ready(self, False)

    def dies(self, why_not: str | None = None) -> None:
        self.room = 0
        self.all.clear()
        self.on_exit(self, why_not)


class Room:
    """In the place of the processors: one, with or without time left."""

    count = 1

    def __init__(self, *, left: bool) -> None:
        self.left = left

    def have_room(self) -> bool:
        return self.left


class Scene:
    """A pool of eight, and what has become of its workers."""

    def __init__(self, *, room: bool, capacity: int = 1) -> None:
        self.room = Room(left=room)
        self.workers = [Answer(capacity) for _ in range(8)]
        self.pool = Pool(cast(list[Worker], self.workers), cast(Processors, self.room))
        self._asked = 0
        self._begun: set[Answer] = set()

    def ask(self, times: int) -> None:
        for _ in range(times):
            self.pool.invoke(Invocation(str(self._asked), b"{}"))
            self._asked += 1

    @property
    def starting(self) -> list[Answer]:
        return [each for each in self.workers if each.starts]

    def start(self) -> None:
        """Whoever was told to gets ready, and whom that brings, until nobody is left."""
        while left := [each for each in self.starting if each not in self._begun]:
            for each in left:
                self._begun.add(each)
                each.started()

    @property
    def at(self) -> list[str]:
        """The ids of what is under way."""
        return sorted(each.id for worker in self.workers for each in worker.all)

    def worker_at(self, number: int) -> Answer:
        return next(each for each in self.workers if each.at and each.at.id == str(number))


def plays(scenario: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def test() -> None:
        uvloop.run(scenario())

    test.__name__ = scenario.__name__
    return test


@plays
async def test_while_the_processors_have_room_everybody_is_put_to_work() -> None:
    scene = Scene(room=True)
    scene.ask(8)
    assert len(scene.starting) == 2, "to start is work as well"
    scene.start()
    assert scene.at == [str(number) for number in range(8)]


@plays
async def test_without_room_a_few_are_at_work_and_take_what_waits_in_turn() -> None:
    scene = Scene(room=False)
    scene.ask(5)
    scene.start()
    assert scene.at == ["0", "1"]
    first = scene.worker_at(0)
    first.done()
    assert scene.at == ["1", "2"]
    assert first.at is not None, "its caches are warm"
    scene.worker_at(1).done()
    scene.worker_at(2).done()
    assert scene.at == ["3", "4"]
    assert len(scene.starting) == 2


@plays
async def test_what_nobody_waits_for_any_more_isnt_begun() -> None:
    scene = Scene(room=False)
    scene.ask(2)
    scene.start()
    queued, under_way = Invocation("queued", b"{}"), scene.worker_at(0).at
    scene.pool.invoke(queued)
    scene.ask(1)
    scene.pool.caller_left(queued)
    with pytest.raises(DisconnectedError):
        await queued.part()
    heard: list[str] = []
    assert under_way is not None
    under_way.on_left = lambda: heard.append(under_way.id)
    scene.pool.caller_left(under_way)
    assert heard == ["0"]
    scene.worker_at(0).done()
    assert scene.at == ["1", "2"]


@plays
async def test_where_room_is_gone_fewer_go_on() -> None:
    scene = Scene(room=True)
    scene.ask(6)
    scene.start()
    scene.room.left = False
    scene.ask(4)
    for number in range(5):
        scene.worker_at(number).done()
    assert scene.at == ["5", "6"]
    scene.ask(1)
    assert scene.at == ["5", "6"], "idle workers there are, and those who wait come first"


@plays
async def test_who_waits_is_served_as_soon_as_there_is_room() -> None:
    scene = Scene(room=False)
    scene.ask(3)
    scene.start()
    scene.room.left = True
    await asyncio.sleep(0.1)
    assert len(scene.starting) == 3
    scene.workers[2].started()
    assert scene.at == ["0", "1", "2"]


@plays
async def test_nobody_waits_for_long_for_room_that_others_take() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "_LONG_ENOUGH_SECONDS", 0.1)
        scene = Scene(room=False)
        scene.ask(3)
        scene.start()
        await asyncio.sleep(0.05)
        assert len(scene.starting) == 2
        await asyncio.sleep(0.15)
        assert len(scene.starting) == 3


@plays
async def test_those_that_take_several_share_what_comes_and_a_few_are_enough() -> None:
    scene = Scene(room=True, capacity=4)
    scene.ask(1)
    scene.start()
    scene.ask(1)
    assert len(scene.starting) == 2, "a process has one processor, and there are two for a few"
    scene.start()
    scene.ask(6)
    assert sorted(each.busy for each in scene.workers) == [0] * 6 + [4, 4]
    assert len(scene.starting) == 2
    scene.ask(3)
    assert len(scene.starting) == 3, "all of their threads are taken"


@plays
async def test_without_room_those_that_take_several_take_them_all_the_same() -> None:
    scene = Scene(room=False, capacity=4)
    scene.ask(10)
    scene.start()
    assert sorted(worker.busy for worker in scene.workers) == [0] * 6 + [4, 4]
    scene.worker_at(0).done()
    assert len(scene.at) == 8, "who waits is next"


@plays
async def test_once_a_rush_is_over_a_few_have_all_that_comes() -> None:
    scene = Scene(room=True, capacity=4)
    scene.ask(32)
    scene.start()
    assert [worker.busy for worker in scene.workers] == [4] * 8
    for worker in scene.workers:
        while worker.busy:
            worker.done()
    scene.ask(9)
    assert sorted(worker.busy for worker in scene.workers) == [0] * 5 + [1, 4, 4]


@plays
async def test_who_dies_at_work_makes_place_for_another() -> None:
    scene = Scene(room=False)
    scene.ask(3)
    scene.start()
    scene.worker_at(0).dies()
    [another] = [each for each in scene.workers if each.at is None and each.starts]
    another.started()
    assert scene.at == ["1", "2"]


@plays
async def test_who_dies_idle_or_does_not_start_is_not_counted_as_at_work() -> None:
    scene = Scene(room=False)
    scene.ask(2)
    first, second = scene.starting
    first.started()
    first.done()
    second.dies("it has no handler")
    first.done()
    first.dies()
    waiting = Invocation("late", b"{}")
    scene.pool.invoke(waiting)
    with pytest.raises(FunctionNotStartedError, match="no handler"):
        await waiting.part()
    scene.pool._retry_at = 0.0
    scene.ask(3)
    assert sum(each.starts for each in scene.workers) == 4, "as few as ever may start"
