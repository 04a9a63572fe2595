"""IAM's decision, as far as the template's policies go: actions, resources, and the conditions that they use.

Source: AWS, "Policy evaluation logic" and "IAM JSON policy elements: Condition operators".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any


@dataclass(frozen=True)
class Asked:
    """One action on one resource; `context` holds the condition keys that its service sends."""

    action: str
    resource: str
    context: Mapping[str, str | Sequence[str]] = field(default_factory=dict, hash=False)


def allowing(statements: Sequence[Mapping[str, Any]], asked: Asked) -> list[Mapping[str, Any]]:
    """The statements that allow it. None of ours denies."""
    assert all(each["Effect"] == "Allow" for each in statements)
    return [each for each in statements if _allows(each, asked)]


def listed(value: str | Sequence[str]) -> list[str]:
    """IAM takes one or a list."""
    return [value] if isinstance(value, str) else list(value)


def _allows(statement: Mapping[str, Any], asked: Asked) -> bool:
    return (
        any(fnmatchcase(asked.action.lower(), each.lower()) for each in listed(statement["Action"]))
        and any(fnmatchcase(asked.resource, each) for each in listed(statement["Resource"]))
        and all(
            _holds(operator, wanted, asked.context.get(key))
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


def _holds(operator: str, wanted: Any, value: str | Sequence[str] | None) -> bool:  # noqa: ANN401 - JSON
    if operator == "Null":
        return (value is None) is bool(wanted == "true")
    if operator == "ForAllValues:StringEquals":
        return all(each in listed(wanted) for each in listed(value or []))
    if value is None:
        return False
    if operator == "StringEquals":
        return bool(value in listed(wanted))
    if operator == "NumericLessThanEquals":
        return float(str(value)) <= float(wanted)
    raise AssertionError(f"no policy here has {operator}")
