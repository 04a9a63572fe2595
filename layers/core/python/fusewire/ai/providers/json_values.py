"""What can be taken from a vendor's JSON, whatever stands there: a count, a text, an object, a list of objects.

Readers of responses use it instead of a schema: a value of the wrong type is a value that isn't there.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fusewire.ids import time_ordered_id
from fusewire.json import dumps

MAX_COUNT: Final = 2**53
"""More than a number in JSON can hold exactly is no count."""
_TEXTS_WITHIN: Final = ("text", "thinking", "summary")


def token_count(value: object) -> int | None:
    """Tokens. None for what is no count: absent, negative, a fraction, beyond 2^53, another type."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= len(str(MAX_COUNT)):
        value = int(value)
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= MAX_COUNT else None


def counts_of(usage: Mapping[str, Any], names: Sequence[str]) -> list[int] | None:
    """Each of these counts, 0 for one that isn't there; None where one is there and is no count."""
    counts = [0 if usage.get(name) is None else token_count(usage[name]) for name in names]
    found = [count for count in counts if count is not None]
    return found if len(found) == len(counts) else None


def text(value: object) -> str | None:
    """A string; None for any other type."""
    return value if isinstance(value, str) else None


def flat_text(value: object) -> str:
    """The text of a string, or of an object or a list that holds texts: Mistral's content, OpenRouter's details."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(flat_text, value))
    if isinstance(value, dict):
        return flat_text(next((value[name] for name in _TEXTS_WITHIN if name in value), ""))
    return ""


def joined(said: str) -> str:
    """The two halves of a character that was cut in two as one; a half alone is none, and can't be sent on."""
    return said if said.isascii() else said.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def fields(value: object) -> Mapping[str, Any]:
    """An object's fields; none of what is no object."""
    return value if isinstance(value, dict) else {}


def objects(value: object) -> list[Mapping[str, Any]]:
    """The objects of a list; none of what is no list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def parsed(raw: bytes) -> Mapping[str, Any]:
    """The fields of a body of JSON, where bytes that aren't UTF-8 are marked as such.

    :raises ValueError: for what isn't JSON
    """
    return fields(json.loads(raw.decode("utf-8-sig", "replace")))


def arguments_of(value: object) -> str:
    """A tool call's arguments, which OpenAI sends as a text of JSON; `{}` where there are none."""
    if isinstance(value, str):
        return value
    if value is None:
        return "{}"
    try:
        return dumps(value)
    except ValueError:  # NaN and Infinity, which only some read
        return json.dumps(value)


def new_id(prefix: str) -> str:
    """An id in the place of one that is missing. OpenAI refuses a call's id of more than 40 characters."""
    return f"{prefix}{time_ordered_id().hex}"
