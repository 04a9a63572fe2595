"""What the laptop's gateway itself is told, and the variables that the functions get: the environment, then `.env`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dotenv import dotenv_values

from local import StartError

_MOST_WORKERS: Final = 32


@dataclass(frozen=True, slots=True)
class Environment:
    """`variables` go to every worker; blank ones count as unset."""

    port: int
    home: Path
    concurrency: int
    variables: dict[str, str]


def read_environment(environ: Mapping[str, str], dotenv: Path) -> Environment:
    """The process's environment over the file's, with what is different on a laptop: local mode, no keys.

    :raises StartError: for a value that can't be used
    """
    merged = {name: value for name, value in dotenv_values(dotenv, interpolate=False).items() if value} | {
        name: value for name, value in environ.items() if value.strip()
    }
    variables = {"AI_MODE": "local", "AUTH_MODE": "open"} | merged
    if variables["AUTH_MODE"] == "keys":
        raise StartError("AUTH_MODE=keys needs the authorizer, which this version doesn't have: leave it unset.")
    return Environment(
        port=_number(merged, "PORT", 8000, 1, 65_535),
        home=Path(merged.get("FUSEWIRE_HOME", ".fusewire")).expanduser().absolute(),
        concurrency=_number(merged, "LOCAL_CONCURRENCY", 8, 1, _MOST_WORKERS),
        variables=variables,
    )


def _number(variables: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = variables.get(name, str(default)).strip()
    if not text.isdecimal() or not low <= int(text) <= high:
        raise StartError(f"{name}={text} can't be used: it must be a whole number from {low} to {high}.")
    return int(text)
