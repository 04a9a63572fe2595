"""An audit entry for people: what it is about, and what it changed."""

from collections.abc import Mapping
from typing import Any

from cli.show import cell


def about(entry: Mapping[str, Any]) -> Any:  # noqa: ANN401 - JSON is anything
    """The key or the budget that was changed, or the path that was asked for; None where it is the gateway itself."""
    result = entry["after"] or {}
    return result.get("budget") or result.get("id") or result.get("path")


def changed(entry: Mapping[str, Any]) -> str:
    """The fields that differ, each as `name: before > after`; of what is new, those that say something."""
    before, after = entry["before"], entry["after"] or {}
    if before is None:
        return "; ".join(f"{name}: {cell(value)}" for name, value in after.items() if value not in (None, [], {}))
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return "; ".join(f"{name}: {cell(before.get(name))} > {cell(after.get(name))}" for name in names)
