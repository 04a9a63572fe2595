"""Percentiles, what is added, ratios and aims."""

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from benchmarks import report
from benchmarks.load import Timings
from benchmarks.measure import SCENARIOS, Round

_ONE, _SIXTEEN, _MANY, _STREAM = (scenario.name for scenario in SCENARIOS)


def _round(subject: str, scenario: str, milliseconds: Sequence[float], *, seconds: float = 1.0) -> Round:
    latencies = [round(value * 1e6) for value in milliseconds]
    return Round(scenario, subject, Timings(latencies, [value // 2 for value in latencies], round(seconds * 1e9)))


def _all(
    ours: float,
    theirs: float,
    *,
    stream_ours: float = 5.0,
    portkeys: float = 4.0,
    calls: int = 10,
    slots: float = 3.5,
) -> list[Round]:
    rounds = []
    for scenario in (_ONE, _SIXTEEN, _MANY, _STREAM):
        rounds.append(_round("direct", scenario, [1.0] * 10))
        rounds.append(_round("fusewire", scenario, [stream_ours if scenario == _STREAM else ours] * calls))
        rounds.append(_round("litellm", scenario, [theirs] * 4))
        rounds.append(_round("portkey", scenario, [portkeys] * 10))
        rounds.append(_round("fusewire, 8 slots", scenario, [slots] * calls))
        if scenario != _STREAM:
            rounds.append(_round("shape", scenario, [2.5] * 12))
    return rounds


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.99, 99), (1.0, 100), (0.0, 1), (0.005, 1), (0.501, 51)])
def test_a_percentile_is_a_value_that_was_measured(share: float, expected: int) -> None:
    assert report.percentile([float(n) for n in range(100, 0, -1)], share) == expected


def test_a_percentile_of_few_values_is_among_them() -> None:
    assert report.percentile([7.0], 0.99) == 7.0
    assert report.percentile([1.0, 9.0], 0.99) == 9.0
    assert report.percentile([1.0, 9.0], 0.5) == 1.0


def test_there_is_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="no values"):
        report.percentile([], 0.5)


def test_rounds_are_pooled_and_the_vendors_own_times_taken_off() -> None:
    rounds = [
        _round("direct", _ONE, [1, 1, 1, 3]),
        _round("fusewire", _ONE, [4, 4, 4, 4], seconds=0.5),
        _round("direct", _ONE, [2, 2, 2, 2]),
        _round("fusewire", _ONE, [6, 6, 6, 10], seconds=1.5),
    ]
    ours = report.figures(rounds)[_ONE]["fusewire"]
    assert (ours.calls, ours.p50, ours.p99) == (8, 4.0, 10.0)
    # Direct, pooled: p50 is 2 (1 1 1 2 2 2 2 3: the fourth), p99 is 3.
    assert (ours.added_p50, ours.added_p99) == (2.0, 7.0)
    assert ours.calls_per_second == 4.0
    assert ours.added_p50_by_round == (3.0, 4.0)
    assert ours.calls_per_second_by_round == (8.0, 2.7)
    assert (ours.first_token_p50, ours.added_first_token_p50) == (2.0, 1.0)


def test_nothing_is_added_to_the_vendor_itself() -> None:
    direct = report.figures([_round("direct", _ONE, [1.0])])[_ONE]["direct"]
    assert direct.added_p50 is None
    assert direct.added_p99 is None
    assert direct.added_p50_by_round == ()


def test_ratios_are_against_each_peer() -> None:
    lines = report.ratios(report.figures(_all(ours=3.0, theirs=9.0)))
    assert f"{_ONE}: added p50 is 0.25 of litellm's (2.0 against 8.0 ms)" in lines
    assert f"{_SIXTEEN}: 2.5 times litellm's calls a second (10 against 4)" in lines
    assert f"{_STREAM}: added p50 is 0.50 of litellm's (4.0 against 8.0 ms)" in lines
    assert f"{_STREAM}: added time to first token p50 is 0.50 of litellm's (2.0 against 4.0 ms)" in lines
    assert len([line for line in lines if "portkey's" in line]) == len(lines) / 2


def test_what_is_ours_is_no_peer() -> None:
    lines = "".join(report.ratios(report.figures(_all(ours=3.0, theirs=9.0))))
    assert not {"shape", "slots"} & set(lines.split())


def test_what_is_within_the_noise_makes_no_ratio() -> None:
    lines = report.ratios(report.figures(_all(ours=0.9, theirs=9.0, stream_ours=0.9)))
    assert not [line for line in lines if "added" in line]


def _aim(rounds: Sequence[Round], number: int) -> dict[str, object]:
    return report.aims(report.figures(rounds))[number]


@pytest.mark.parametrize(("ours", "met"), [(3.0, True), (3.1, False)])
def test_two_milliseconds_are_added_or_more(ours: float, met: bool) -> None:
    assert _aim(_all(ours=ours, theirs=9.0), 0) == {
        "aim": "added p50 at most 2 ms at 1 caller",
        "met": met,
        "found": f"{ours - 1:.2f}; with 8 slots 2.50; the shape alone 1.50",
    }


@pytest.mark.parametrize(("portkeys", "met"), [(3.0, True), (2.3, False)])
def test_what_is_added_is_at_most_so_much_of_portkeys(portkeys: float, met: bool) -> None:
    found = _aim(_all(ours=3.0, theirs=9.0, portkeys=portkeys), 1)
    assert found["met"] is met
    assert found["found"] == f"2.00 against {portkeys - 1:.2f} ms, {2 / (portkeys - 1):.1f} times"


@pytest.mark.parametrize(
    ("calls", "than_portkey", "than_litellm"), [(10, False, False), (11, True, False), (33, True, True)]
)
def test_more_calls_a_second_or_not(calls: int, than_portkey: bool, than_litellm: bool) -> None:
    rounds = _all(ours=3.0, theirs=9.0, calls=calls)
    assert (_aim(rounds, 2)["met"], _aim(rounds, 3)["met"]) == (than_portkey, than_litellm)
    assert (
        _aim(rounds, 2)["found"]
        == f"{calls} against 10, {calls / 10:.1f} times; with 8 slots {calls}; the shape alone 12"
    )


@pytest.mark.parametrize(("ours", "met"), [(3.9, True), (4.0, False)])
def test_the_slowest_calls_of_many_callers(ours: float, met: bool) -> None:
    assert _aim(_all(ours=ours, theirs=9.0, portkeys=4.0), 4)["met"] is met


@pytest.mark.parametrize(("seconds", "met"), [(0.025, True), (0.026, False), (None, None)])
def test_processor_time_a_call(seconds: float | None, met: bool | None) -> None:
    rounds = [replace(one, processor_seconds=seconds) if one.subject == "fusewire" else one for one in _all(3.0, 9.0)]
    assert _aim(rounds, 5)["met"] is met
    assert report.figures(rounds)[_SIXTEEN]["fusewire"].processor_ms == (None if seconds is None else 100 * seconds)


def test_a_peer_that_took_no_part_meets_and_misses_nothing() -> None:
    rounds = [one for one in _all(ours=3.0, theirs=9.0) if one.subject != "portkey"]
    assert [_aim(rounds, number)["met"] for number in range(6)] == [True, None, None, False, None, None]
    assert _aim(rounds, 1)["found"] == "not measured"


def test_the_document_is_json_with_every_figure() -> None:
    result = report.figures(_all(ours=3.0, theirs=9.0))
    run = json.loads(json.dumps(report.document({"versions": {"fusewire": "0.1.0"}}, result)))
    assert run["versions"] == {"fusewire": "0.1.0"}
    assert run["scenarios"][_ONE]["portkey"]["calls_per_second"] == 10
    assert (run["ratios"], run["aims"]) == (report.ratios(result), report.aims(result))
