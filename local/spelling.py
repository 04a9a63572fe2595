"""Variables that look like settings and are none: named at the start, with the nearest right one."""

from collections.abc import Collection, Iterable, Iterator
from difflib import SequenceMatcher, get_close_matches
from typing import Final

from fusewire.ai.registry import Registry
from fusewire.config import Settings, load_settings
from local.environment import OF_THIS_MACHINE

_FAMILIES: Final = ("AI_", "FUSEWIRE_", "AWS_BEDROCK_")
"""Whatever begins so is meant for fusewire, and what begins with a vendor's name in `.env`, but for AWS's."""
_MAX_SLIPS: Final = 2
"""Letters that a misspelling adds, drops or changes: a neighbour swapped is one of each."""
_MIN_LENGTH: Final = 6
"""Shorter names are near to too many others."""
_MAX_NAMED: Final = 8


def settings_names() -> frozenset[str]:
    """Every variable that fusewire reads."""
    own = (name.upper() for name in Settings.model_fields if name != "environment")
    return frozenset((*own, *vendors_names(), *OF_THIS_MACHINE))


def vendors_names() -> frozenset[str]:
    """Those of the providers."""
    registry = Registry(load_settings({}))
    providers = [registry.get(name) for name in registry.ids()]
    return frozenset(name for p in providers for name in (*p.variables.names(), f"{p.id.upper()}_KEY_EXPIRES_ON"))


def misspelt(written: Collection[str], environ: Collection[str]) -> list[str]:
    """One line for each: of `.env` all that look like settings, of the environment those that miss one by a slip.

    The environment is shared with the vendors' own tools, whose variables begin with the same words.

    :param written: the names in `.env`
    :param environ: the names in the process's environment
    """
    known = settings_names()
    lines = [*_in_file(written, known), *_in_environment(environ, known, {*written, *environ})]
    more = len(lines) - _MAX_NAMED
    return [*lines[:_MAX_NAMED], f"{more} more variables are no settings."] if more > 0 else lines


def _in_file(names: Iterable[str], known: frozenset[str]) -> Iterator[str]:
    families = (*_FAMILIES, *(f"{name.upper()}_" for name in Registry(load_settings({})).ids() if name != "aws"))
    for name in sorted(set(names) - known):
        near = _nearest(name, known)
        if near is None and name.upper().startswith(families):
            near = next(iter(get_close_matches(name.upper(), known, n=1, cutoff=0.7)), "")
        if near is not None:
            yield _line(name, ".env", near)


def _in_environment(names: Iterable[str], known: frozenset[str], given: set[str]) -> Iterator[str]:
    for name in sorted(set(names) - known):
        near = _nearest(name, known)
        if near is not None and near not in given:
            yield _line(name, "the environment", near)


def _line(name: str, where: str, near: str) -> str:
    shown = "".join(character if character.isprintable() else "?" for character in name[:80])
    return f"{shown} in {where} is no setting" + (f": did you mean {near}?" if near else ".")


def _nearest(name: str, known: frozenset[str]) -> str | None:
    """The setting that this misses by a slip or two; None where there is none."""
    if len(name) < _MIN_LENGTH:
        return None
    close = get_close_matches(name.upper(), known, n=3, cutoff=0.8)
    slips = {each: _slips(name.upper(), each) for each in close if len(each) >= _MIN_LENGTH}
    return min((each for each in slips if slips[each] <= _MAX_SLIPS), key=slips.__getitem__, default=None)


def _slips(name: str, right: str) -> int:
    changes = SequenceMatcher(None, name, right, autojunk=False).get_opcodes()
    return sum(max(i2 - i1, j2 - j1) for tag, i1, i2, j1, j2 in changes if tag != "equal")
