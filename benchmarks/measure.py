"""The order of a run: warm up, then short rounds in turn, so that the machine's noise hits every subject alike."""

import gc
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks import BenchmarkError
from benchmarks.load import LoadError, Target, Timings, offer

_WARM_UP_SECONDS: Final = 8.0


@dataclass(frozen=True, slots=True)
class Scenario:
    """One kind of load."""

    name: str
    callers: int
    stream: bool


SCENARIOS: Final = (
    Scenario("1 caller", 1, stream=False),
    Scenario("16 callers", 16, stream=False),
    Scenario("64 callers", 64, stream=False),
    Scenario("1 caller, streams", 1, stream=True),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a run takes: `rounds` times, for each scenario and subject, `seconds` of load."""

    rounds: int
    seconds: float
    warm_up_calls: int
    """Of each scenario, for each subject, before anything is timed; fewer where they take over eight seconds."""
    starts: int
    """How often each subject is started, the first time with an empty data folder."""


FULL: Final = Plan(rounds=5, seconds=3.0, warm_up_calls=1000, starts=4)
QUICK: Final = Plan(rounds=1, seconds=0.5, warm_up_calls=64, starts=2)


@dataclass(frozen=True, slots=True)
class Round:
    """What one subject did in one round of one scenario."""

    scenario: str
    subject: str
    timings: Timings
    processor_seconds: float | None = None
    """That its processes took meanwhile; None for the vendor itself."""


@dataclass(frozen=True, slots=True)
class Measured:
    """All rounds, and how many calls each subject was sent, the warm-up's included."""

    rounds: tuple[Round, ...]
    calls: Mapping[str, int]


async def warm_up(subjects: Mapping[str, Target], plan: Plan) -> dict[str, int]:
    """Have every subject start, import and connect what it will use.

    :return: the calls that it took, by subject
    :raises BenchmarkError: when a call isn't answered properly
    """
    calls = dict.fromkeys(subjects, 0)
    for name, target in subjects.items():
        # The most callers first: they make a subject start all the workers that it will use.
        for scenario in sorted(_offered(target), key=lambda s: -s.callers):
            timings = await _offer(name, target, scenario, _WARM_UP_SECONDS, plan.warm_up_calls)
            calls[name] += timings.calls
    return calls


async def measure(
    subjects: Mapping[str, Target],
    plan: Plan,
    sent: Mapping[str, int],
    processor_seconds: Mapping[str, Callable[[], float]],
) -> Measured:
    """Load every subject by the plan; the first is the one that the others' figures are measured from.

    :param sent: the calls that each was sent before
    :param processor_seconds: what a subject's processes have taken so far, for each that has its own
    :raises BenchmarkError: when a call isn't answered properly
    """
    calls = dict(sent)
    rounds = []
    # A pause of the load's own garbage collector would count as somebody's latency; what it makes has no cycles.
    gc.disable()
    try:
        for number in range(plan.rounds):
            sys.stdout.write(f"round {number + 1} of {plan.rounds}\n")
            sys.stdout.flush()
            for scenario in SCENARIOS:
                takes_part = [name for name, target in subjects.items() if scenario in _offered(target)]
                for name in order(takes_part, number):
                    taken = processor_seconds.get(name)
                    before = taken() if taken else 0.0
                    timings = await _offer(name, subjects[name], scenario, plan.seconds)
                    calls[name] += timings.calls
                    rounds.append(Round(scenario.name, name, timings, taken() - before if taken else None))
    finally:
        gc.enable()
    return Measured(tuple(rounds), calls)


def _offered(target: Target) -> list[Scenario]:
    return [scenario for scenario in SCENARIOS if target.streams or not scenario.stream]


def order(subjects: Sequence[str], number: int) -> tuple[str, ...]:
    """The first subject first, the others in turn forwards and backwards: none always follows the same one."""
    first, *others = subjects
    return (first, *(reversed(others) if number % 2 else others))


async def _offer(
    name: str, target: Target, scenario: Scenario, seconds: float, max_calls: int | None = None
) -> Timings:
    limit = {} if max_calls is None else {"max_calls": max_calls}
    try:
        return await offer(target, callers=scenario.callers, stream=scenario.stream, seconds=seconds, **limit)
    except LoadError as error:
        raise BenchmarkError(f"{name}, {scenario.name}: {error}") from error
