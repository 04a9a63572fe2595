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
    migration_database_url: str | None
    """Whom to migrate and restore as on a server of the user's own; None without one."""


def read_environment(environ: Mapping[str, str], dotenv: Path) -> Environment:
    """The process's environment over the file's, with what is different on a laptop: local mode, no keys.

    :raises StartError: for a value that can't be used
    """
    try:
        written = dotenv_values(dotenv, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"The file {dotenv} can't be read ({type(error).__name__}): it must be UTF-8 text.") from error
    merged = _set(written) | _set(environ)
    variables = {"AI_MODE": "local", "AUTH_MODE": "open"} | merged
    # For this process alone: the workers run as a role that may not change the schema.
    migration = variables.pop("MIGRATION_DATABASE_URL", None)
    if migration is not None and "DATABASE_URL" not in variables:
        raise StartError("MIGRATION_DATABASE_URL is for a server of your own: set DATABASE_URL as well, or neither.")
    return Environment(
        port=_number(merged, "PORT", 8000, 1, 65_535),
        home=Path(merged.get("FUSEWIRE_HOME", ".fusewire")).expanduser().absolute(),
        concurrency=_number(merged, "LOCAL_CONCURRENCY", 8, 1, _MOST_WORKERS),
        variables=variables,
        migration_database_url=migration or variables.get("DATABASE_URL"),
    )


def _set(variables: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if value and value.strip()}


def _number(variables: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = variables.get(name, str(default)).strip()
    if not text.isdecimal() or not low <= int(text) <= high:
        raise StartError(f"{name}={text} can't be used: it must be a whole number from {low} to {high}.")
    return int(text)
