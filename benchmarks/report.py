"""What the rounds say: percentiles, what a subject adds to the vendor's own times, ratios; as JSON and as a page."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any, Final

from benchmarks.load import Timings
from benchmarks.measure import SCENARIOS, Round

DIRECT: Final = "direct"
OURS: Final = "fusewire"
_AIM_ADDED: Final = 0.5
_AIM_CALLS: Final = 2.0
_QUIET_PERCENT: Final = 10.0


@dataclass(frozen=True, slots=True)
class Figures:
    """One subject under one scenario. Times in milliseconds; `added` is over the vendor's own, same percentile."""

    calls: int
    p50: float
    p99: float
    first_byte_p50: float
    calls_per_second: float
    added_p50: float | None
    added_p99: float | None
    added_first_byte_p50: float | None
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
    told: dict[str, dict[str, Figures]] = {}
    for scenario in SCENARIOS:
        by_subject: dict[str, list[Timings]] = {}
        for one in rounds:
            if one.scenario == scenario.name:
                by_subject.setdefault(one.subject, []).append(one.timings)
        if not by_subject:
            continue
        base = by_subject[DIRECT]
        told[scenario.name] = {
            name: _figures(timings, None if name == DIRECT else base) for name, timings in by_subject.items()
        }
    return told


def _figures(timings: Sequence[Timings], base: Sequence[Timings] | None) -> Figures:
    p50, p99 = _latency(timings, 0.5), _latency(timings, 0.99)
    first_byte = _first_byte(timings)
    calls = sum(one.calls for one in timings)
    by_round = tuple(round(one.calls / (one.elapsed / 1e9), 1) for one in timings)
    return Figures(
        calls=calls,
        p50=p50,
        p99=p99,
        first_byte_p50=first_byte,
        calls_per_second=round(calls / (sum(one.elapsed for one in timings) / 1e9), 1),
        added_p50=None if base is None else round(p50 - _latency(base, 0.5), 3),
        added_p99=None if base is None else round(p99 - _latency(base, 0.99), 3),
        added_first_byte_p50=None if base is None else round(first_byte - _first_byte(base), 3),
        added_p50_by_round=()
        if base is None
        else tuple(
            round(_latency([one], 0.5) - _latency([other], 0.5), 3) for one, other in zip(timings, base, strict=True)
        ),
        calls_per_second_by_round=by_round,
    )


def _latency(timings: Sequence[Timings], share: float) -> float:
    return _milliseconds(percentile([value for one in timings for value in one.latencies], share))


def _first_byte(timings: Sequence[Timings]) -> float:
    return _milliseconds(percentile([value for one in timings for value in one.first_bytes], 0.5))


def _milliseconds(nanoseconds: float) -> float:
    return round(nanoseconds / 1e6, 3)


def ratios(told: Mapping[str, Mapping[str, Figures]]) -> list[str]:
    """Fusewire against each peer, one line a figure; ratios of one run are what counts on a noisy machine."""
    lines = []
    for scenario in SCENARIOS:
        ours = told.get(scenario.name, {}).get(OURS)
        if ours is None:
            continue
        for peer, theirs in told[scenario.name].items():
            if peer not in (DIRECT, OURS):
                lines += _compared(scenario.name, ours, peer, theirs, stream=scenario.stream)
    return lines


def _compared(scenario: str, ours: Figures, peer: str, theirs: Figures, *, stream: bool) -> list[str]:
    pairs = [("added p50", ours.added_p50, theirs.added_p50), ("added p99", ours.added_p99, theirs.added_p99)]
    if stream:
        pairs.append(("added time to first byte p50", ours.added_first_byte_p50, theirs.added_first_byte_p50))
    lines = []
    for what, mine, other in pairs:
        # Nothing added, or less than nothing, is within the noise: a ratio of it would be a lie.
        if mine is None or other is None or mine <= 0 or other <= 0:
            continue
        aim = _aim(mine / other < _AIM_ADDED, f"below {_AIM_ADDED:g}") if what == "added p50" and not stream else ""
        lines.append(f"{scenario}: {what} is {mine / other:.2f} of {peer}'s ({mine:.1f} against {other:.1f} ms){aim}")
    if not stream:
        faster = ours.calls_per_second / theirs.calls_per_second
        aim = _aim(faster > _AIM_CALLS, f"above {_AIM_CALLS:g}")
        lines.append(
            f"{scenario}: {faster:.1f} times {peer}'s calls a second "
            f"({ours.calls_per_second:.0f} against {theirs.calls_per_second:.0f}){aim}"
        )
    return lines


def _aim(met: bool, aim: str) -> str:
    return f"; aim: {aim}, {'met' if met else 'missed'}"


def document(about: Mapping[str, Any], told: Mapping[str, Mapping[str, Figures]]) -> dict[str, Any]:
    """The run as JSON: `about` (machine, versions, resources, money) and every figure."""
    scenarios = {name: {who: asdict(one) for who, one in by.items()} for name, by in told.items()}
    return {**about, "scenarios": scenarios, "ratios": ratios(told)}


def page(run: Mapping[str, Any]) -> str:
    """The same as a page to read. `run` is what `document` made."""
    sections = [
        "# Benchmarks: fusewire beside LiteLLM's proxy",
        _about(run),
        *(_table(name, by) for name, by in run["scenarios"].items()),
        "## Ratios\n\n" + "\n".join(f"- {line}" for line in run["ratios"]),
        _resources(run["resources"]),
        "## How it was measured\n\n" + "\n".join(f"- {line}" for line in run["notes"]),
    ]
    return "\n\n".join(sections) + "\n"


def _about(run: Mapping[str, Any]) -> str:
    machine = run["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    money = run["money"]
    return (
        f"{run['date']}, commit {run['commit']}. {machine['cores']} cores ({machine['processor']}), "
        f"{machine['memory_gb']} GB, {machine['system']}; load before the run {machine['load_before']}; "
        f"others used {machine['used_by_others_percent']} % of the processors during it.\n"
        f"{versions}.\n\n"
        f"The books: {money['calls']} calls at {money['call_usd']} USD are {money['expected_usd']} USD; fusewire "
        f"booked {money['booked_usd']} USD and holds {money['reserved_usd']} USD reserved; the vendor served "
        f"{money['served']} calls."
    ) + _disturbed(machine["used_by_others_percent"])


def _disturbed(percent: float) -> str:
    """Said whichever way the aims came out: a disturbed run neither meets nor misses them for good."""
    if percent <= _QUIET_PERCENT:
        return ""
    return (
        f"\n\n**Disturbed:** over {_QUIET_PERCENT:g} % of the processors went to others. Aims met or missed below are "
        "provisional: run it again on a quiet machine."
    )


def _table(name: str, by: Mapping[str, Mapping[str, Any]]) -> str:
    stream = any(scenario.stream for scenario in SCENARIOS if scenario.name == name)
    first = ("first byte p50", "added") if stream else ()
    header = ("", "p50", "added p50", "rounds' range", "p99", "added p99", *first, "calls/s", "calls")
    rows = [header, tuple("---" if n == 0 else "---:" for n in range(len(header)))]
    for who, one in by.items():
        cells = [who, f"{one['p50']:.2f}", _shown(one["added_p50"]), _range(one["added_p50_by_round"])]
        cells += [f"{one['p99']:.2f}", _shown(one["added_p99"])]
        if stream:
            cells += [f"{one['first_byte_p50']:.2f}", _shown(one["added_first_byte_p50"])]
        cells += [f"{one['calls_per_second']:.0f}", str(one["calls"])]
        rows.append(tuple(cells))
    return f"## {name}\n\nTimes in milliseconds.\n\n" + _markdown(rows)


def _resources(resources: Mapping[str, Mapping[str, Any]]) -> str:
    """One column a subject, one row a quantity; what a subject has no figure for stays empty."""
    names = list(resources)
    quantities = dict.fromkeys(key for one in resources.values() for key in one)
    rows = [("", *names), ("---", *("---:" for _ in names))]
    rows += [(key, *(str(resources[name].get(key, "")) for name in names)) for key in quantities]
    return "## Start, memory, size\n\n" + _markdown(rows)


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}" if values else ""
