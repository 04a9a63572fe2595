"""What the rounds say: percentiles, what a subject adds to the vendor's own times, ratios and aims."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any, Final

from benchmarks.load import Timings
from benchmarks.measure import SCENARIOS, Round
from benchmarks.peers import SLOTS

DIRECT: Final = "direct"
OURS: Final = "fusewire"
WITH_SLOTS: Final = f"fusewire, {SLOTS} slots"
SHAPE: Final = "shape"
"""The least that our way of running and booking takes (`benchmarks.shape`)."""
_AIM_CALLS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Figures:
    """One subject under one scenario. Times in milliseconds; `added` is over the vendor's own, same percentile."""

    calls: int
    p50: float
    p99: float
    first_token_p50: float
    calls_per_second: float
    added_p50: float | None
    added_p99: float | None
    added_first_token_p50: float | None
    added_p50_by_round: tuple[float, ...]
    calls_per_second_by_round: tuple[float, ...]


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of them don't exceed (nearest rank).

    :raises ValueError: for no values
    """
    if not values:
        raise ValueError("no values")
    return sorted(values)[max(ceil(share * len(values)) - 1, 0)]


def figures(rounds: Sequence[Round]) -> dict[str, dict[str, Figures]]:
    """By scenario and subject, pooled over the rounds."""
    figures_by_scenario: dict[str, dict[str, Figures]] = {}
    for scenario in SCENARIOS:
        by_subject: dict[str, list[Timings]] = {}
        for one in rounds:
            if one.scenario == scenario.name:
                by_subject.setdefault(one.subject, []).append(one.timings)
        if not by_subject:
            continue
        base = by_subject[DIRECT]
        figures_by_scenario[scenario.name] = {
            name: _figures(timings, None if name == DIRECT else base) for name, timings in by_subject.items()
        }
    return figures_by_scenario


def _figures(timings: Sequence[Timings], base: Sequence[Timings] | None) -> Figures:
    p50, p99 = _latency(timings, 0.5), _latency(timings, 0.99)
    first_token = _first_token(timings)
    calls = sum(one.calls for one in timings)
    by_round = tuple(round(one.calls / (one.elapsed / 1e9), 1) for one in timings)
    return Figures(
        calls=calls,
        p50=p50,
        p99=p99,
        first_token_p50=first_token,
        calls_per_second=round(calls / (sum(one.elapsed for one in timings) / 1e9), 1),
        added_p50=None if base is None else round(p50 - _latency(base, 0.5), 3),
        added_p99=None if base is None else round(p99 - _latency(base, 0.99), 3),
        added_first_token_p50=None if base is None else round(first_token - _first_token(base), 3),
        added_p50_by_round=()
        if base is None
        else tuple(
            round(_latency([one], 0.5) - _latency([other], 0.5), 3) for one, other in zip(timings, base, strict=True)
        ),
        calls_per_second_by_round=by_round,
    )


def _latency(timings: Sequence[Timings], share: float) -> float:
    return _milliseconds(percentile([value for one in timings for value in one.latencies], share))


def _first_token(timings: Sequence[Timings]) -> float:
    return _milliseconds(percentile([value for one in timings for value in one.first_tokens], 0.5))


def _milliseconds(nanoseconds: float) -> float:
    return round(nanoseconds / 1e6, 3)


def ratios(figures_by_scenario: Mapping[str, Mapping[str, Figures]]) -> list[str]:
    """Fusewire against each peer, one line a figure; ratios of one run are what counts on a noisy machine."""
    lines = []
    for scenario in SCENARIOS:
        ours = figures_by_scenario.get(scenario.name, {}).get(OURS)
        if ours is None:
            continue
        for peer, theirs in figures_by_scenario[scenario.name].items():
            if peer not in (DIRECT, OURS, WITH_SLOTS, SHAPE):
                lines += _compared(scenario.name, ours, peer, theirs, stream=scenario.stream)
    return lines


def _compared(scenario: str, ours: Figures, peer: str, theirs: Figures, *, stream: bool) -> list[str]:
    pairs = [("added p50", ours.added_p50, theirs.added_p50), ("added p99", ours.added_p99, theirs.added_p99)]
    if stream:
        pairs.append(("added time to first token p50", ours.added_first_token_p50, theirs.added_first_token_p50))
    lines = []
    for what, mine, other in pairs:
        # Nothing added, or less than nothing, is within the noise: a ratio of it would be a lie.
        if mine is None or other is None or mine <= 0 or other <= 0:
            continue
        lines.append(f"{scenario}: {what} is {mine / other:.2f} of {peer}'s ({mine:.1f} against {other:.1f} ms)")
    if not stream:
        faster = ours.calls_per_second / theirs.calls_per_second
        lines.append(
            f"{scenario}: {faster:.1f} times {peer}'s calls a second "
            f"({ours.calls_per_second:.0f} against {theirs.calls_per_second:.0f})"
        )
    return lines


def aims(figures_by_scenario: Mapping[str, Mapping[str, Figures]]) -> list[dict[str, object]]:
    """What the comparison was to show, as it is by default or set up for many calls at once, whichever is better.

    `met` is None where a peer took no part.
    """
    added, calls = figures_by_scenario.get("1 caller", {}), figures_by_scenario.get("16 callers", {})
    one: dict[str, object] = {"aim": "added p50 below Portkey's at 1 caller", "met": None, "found": "not measured"}
    if "portkey" in added:
        plain, slots, least, other = (added[who].added_p50 or 0 for who in (OURS, WITH_SLOTS, SHAPE, "portkey"))
        found = f"{plain:.2f}, with {SLOTS} slots {slots:.2f}, against {other:.2f} ms; the shape alone {least:.2f}"
        one |= {"met": min(plain, slots) < other, "found": found}
    two: dict[str, object] = {"aim": f"{_AIM_CALLS:g} times LiteLLM's calls a second at 16 callers", "met": None}
    two |= {"found": "not measured"}
    if "litellm" in calls:
        rates = (calls[who].calls_per_second / calls["litellm"].calls_per_second for who in (OURS, WITH_SLOTS, SHAPE))
        plain, slots, most = rates
        found = f"{plain:.1f} times, with {SLOTS} slots {slots:.1f}; the shape alone {most:.1f}"
        two |= {"met": max(plain, slots) >= _AIM_CALLS, "found": found}
    return [one, two]


def document(about: Mapping[str, Any], figures_by_scenario: Mapping[str, Mapping[str, Figures]]) -> dict[str, Any]:
    """The comparison as JSON: `about` (versions, resources, money), every figure, ratios and aims."""
    scenarios = {name: {who: asdict(one) for who, one in by.items()} for name, by in figures_by_scenario.items()}
    return {**about, "scenarios": scenarios, "ratios": ratios(figures_by_scenario), "aims": aims(figures_by_scenario)}
