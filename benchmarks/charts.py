"""Tables and charts as plain text: Markdown, and mermaid's `xychart-beta`, which GitHub draws."""

from collections.abc import Mapping, Sequence


def table(rows: Sequence[Sequence[str]]) -> str:
    """:param rows: the first is the header; every column but the first is of numbers"""
    header, *others = rows
    rule = ["---" if number == 0 else "---:" for number in range(len(header))]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *others))


def bars(title: str, axis: str, values: Mapping[str, float]) -> str:
    """One bar for each name.

    :param axis: what is counted, with its unit
    """
    return _chart(title, axis, "bar", values)


def line(title: str, axis: str, values: Mapping[str, float]) -> str:
    """The same as a line, for what grows along the names."""
    return _chart(title, axis, "line", values)


def _chart(title: str, axis: str, kind: str, values: Mapping[str, float]) -> str:
    names = ", ".join(f'"{name}"' for name in values)
    # A bar below 0, which noise can make, would be drawn from the bottom of the chart upwards.
    heights = [max(value, 0) for value in values.values()]
    top = _round_above(max(heights, default=0))
    return "\n".join(
        (
            "```mermaid",
            "xychart-beta",
            f'    title "{title}"',
            f"    x-axis [{names}]",
            f'    y-axis "{axis}" 0 --> {top:g}',
            f"    {kind} [{', '.join(f'{height:g}' for height in heights)}]",
            "```",
        )
    )


def _round_above(value: float) -> float:
    """The next of 1, 2, 5, 10 and so on that isn't below `value`."""
    if value <= 0:
        return 1
    unit = 1.0
    while unit > value:
        unit /= 10
    while unit * 10 <= value:
        unit *= 10
    return next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= value)
