"""Percentiles, what is added, ratios and aims."""

import json
from collections.abc import Sequence

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


@pytest.mark.parametrize(
    ("portkeys", "slots", "met"), [(2.5, 3.5, False), (3.0, 3.5, False), (3.1, 3.5, True), (2.5, 2.4, True)]
)
def test_portkey_adds_less_or_it_does_not(portkeys: float, slots: float, met: bool) -> None:
    result = report.figures(_all(ours=3.0, theirs=9.0, portkeys=portkeys, slots=slots))
    assert report.aims(result)[0] == {
        "aim": "added p50 below Portkey's at 1 caller",
        "met": met,
        "found": f"2.00, with 8 slots {slots - 1:.2f}, against {portkeys - 1:.2f} ms; the shape alone 1.50",
    }


@pytest.mark.parametrize(("calls", "met"), [(20, True), (19, False)])
def test_five_times_litellms_calls_or_not(calls: int, met: bool) -> None:
    result = report.figures(_all(ours=3.0, theirs=9.0, calls=calls))
    assert report.aims(result)[1]["met"] is met
    assert (
        report.aims(result)[1]["found"] == f"{calls / 4:.1f} times, with 8 slots {calls / 4:.1f}; the shape alone 3.0"
    )


def test_a_peer_that_took_no_part_meets_and_misses_nothing() -> None:
    rounds = [one for one in _all(ours=3.0, theirs=9.0) if one.subject != "portkey"]
    aims = report.aims(report.figures(rounds))
    assert [one["met"] for one in aims] == [None, False]
    assert aims[0]["found"] == "not measured"


def test_the_document_is_json_with_every_figure() -> None:
    result = report.figures(_all(ours=3.0, theirs=9.0))
    run = json.loads(json.dumps(report.document({"versions": {"fusewire": "0.1.0"}}, result)))
    assert run["versions"] == {"fusewire": "0.1.0"}
    assert run["scenarios"][_ONE]["portkey"]["calls_per_second"] == 10
    assert (run["ratios"], run["aims"]) == (report.ratios(result), report.aims(result))
