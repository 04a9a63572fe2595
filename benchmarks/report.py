"""What the rounds say: percentiles, what a subject adds to the vendor's own times, ratios and aims."""

from collections.abc import Callable, Mapping, Sequence
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
_MAX_ADDED_MS: Final = 2.0
_MAX_TIMES_PORTKEYS: Final = 1.5
_MIN_TIMES_LITELLMS: Final = 8.0
_MAX_PROCESSOR_MS: Final = 2.5


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
    processor_ms: float | None
    """A call's processor time, all of the subject's processes together."""


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
        by_subject: dict[str, list[Round]] = {}
        for one in rounds:
            if one.scenario == scenario.name:
                by_subject.setdefault(one.subject, []).append(one)
        if not by_subject:
            continue
        base = [one.timings for one in by_subject[DIRECT]]
        figures_by_scenario[scenario.name] = {
            name: _figures(of_subject, None if name == DIRECT else base) for name, of_subject in by_subject.items()
        }
    return figures_by_scenario


def _figures(rounds: Sequence[Round], base: Sequence[Timings] | None) -> Figures:
    timings = [one.timings for one in rounds]
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
        processor_ms=_processor_ms(rounds, calls),
    )


def _processor_ms(rounds: Sequence[Round], calls: int) -> float | None:
    taken = [one.processor_seconds for one in rounds if one.processor_seconds is not None]
    return round(1000 * sum(taken) / calls, 2) if taken else None


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
    """What the comparison is to show, of fusewire as it is by default.

    `met` is None where a peer took no part.
    """
    one, sixteen, many = (figures_by_scenario.get(f"{n} caller{'s' * (n > 1)}", {}) for n in (1, 16, 64))
    return [
        _added(one),
        _times_portkeys(one),
        _faster(sixteen, "portkey", 1.0, "more calls a second than Portkey at 16 callers"),
        _faster(
            sixteen,
            "litellm",
            _MIN_TIMES_LITELLMS,
            f"{_MIN_TIMES_LITELLMS:g} times LiteLLM's calls a second at 16 callers",
        ),
        _quickest(many),
        _processor(sixteen),
    ]


def _aim(aim: str, found: str | None = None, *, met: bool = False) -> dict[str, object]:
    return {"aim": aim, "met": None if found is None else met, "found": found or "not measured"}


def _added(by: Mapping[str, Figures]) -> dict[str, object]:
    aim = f"added p50 at most {_MAX_ADDED_MS:g} ms at 1 caller"
    if OURS not in by:
        return _aim(aim)
    added = by[OURS].added_p50 or 0
    found = f"{added:.2f}{_beside(by, lambda figures: figures.added_p50 or 0, '.2f')}"
    return _aim(aim, found, met=added <= _MAX_ADDED_MS)


def _times_portkeys(by: Mapping[str, Figures]) -> dict[str, object]:
    aim = f"added p50 at most {_MAX_TIMES_PORTKEYS:g} times Portkey's at 1 caller"
    if not {OURS, "portkey"} <= by.keys():
        return _aim(aim)
    ours, theirs = by[OURS].added_p50 or 0, by["portkey"].added_p50 or 0
    found = f"{ours:.2f} against {theirs:.2f} ms" + (f", {ours / theirs:.1f} times" if theirs > 0 else "")
    return _aim(aim, found, met=ours <= _MAX_TIMES_PORTKEYS * theirs)


def _faster(by: Mapping[str, Figures], peer: str, times: float, aim: str) -> dict[str, object]:
    if not {OURS, peer} <= by.keys():
        return _aim(aim)
    ours, theirs = by[OURS].calls_per_second, by[peer].calls_per_second
    found = f"{ours:.0f} against {theirs:.0f}, {ours / theirs:.1f} times"
    return _aim(
        aim, f"{found}{_beside(by, lambda figures: figures.calls_per_second, '.0f')}", met=ours > times * theirs
    )


def _quickest(by: Mapping[str, Figures]) -> dict[str, object]:
    aim = "p99 at 64 callers below LiteLLM's and Portkey's"
    if not {OURS, "litellm", "portkey"} <= by.keys():
        return _aim(aim)
    ours, litellm, portkey = (by[who].p99 for who in (OURS, "litellm", "portkey"))
    return _aim(aim, f"{ours:.0f} against {litellm:.0f} and {portkey:.0f} ms", met=ours < min(litellm, portkey))


def _processor(by: Mapping[str, Figures]) -> dict[str, object]:
    aim = f"processor time a call, all processes together, at most {_MAX_PROCESSOR_MS:g} ms at 16 callers"
    if OURS not in by or by[OURS].processor_ms is None:
        return _aim(aim)
    ours = by[OURS].processor_ms or 0
    found = f"{ours:.2f}{_beside(by, lambda figures: figures.processor_ms or 0, '.2f')}"
    return _aim(aim, found, met=ours <= _MAX_PROCESSOR_MS)


def _beside(by: Mapping[str, Figures], figure: Callable[[Figures], float], form: str) -> str:
    """The same of what is ours beside: with slots, and of the least that our way takes."""
    named = ((f"with {SLOTS} slots", WITH_SLOTS), ("the shape alone", SHAPE))
    return "".join(f"; {words} {figure(by[who]):{form}}" for words, who in named if who in by)


def document(about: Mapping[str, Any], figures_by_scenario: Mapping[str, Mapping[str, Figures]]) -> dict[str, Any]:
    """The comparison as JSON: `about` (versions, resources, money), every figure, ratios and aims."""
    scenarios = {name: {who: asdict(one) for who, one in by.items()} for name, by in figures_by_scenario.items()}
    return {**about, "scenarios": scenarios, "ratios": ratios(figures_by_scenario), "aims": aims(figures_by_scenario)}
