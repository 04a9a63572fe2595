"""What the laptop's gateway itself is told, and the variables that the functions get: the environment, then `.env`."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from dotenv import dotenv_values

from local import StartError
from local.home import home_folder
from local.template import Function

_MAX_WORKERS: Final = 32
_MAX_CALLS: Final = 64
_HOST: Final = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\]")
_DATABASES: Final = ("DATABASE_URL", "MIGRATION_DATABASE_URL")
"""Blank is an error for these: taken for unset, a misspelt `DATABASE_URL="$EMPTY_ULR"` would mean the live ledger."""
KeySource = Literal["environment", ".env", "nowhere"]
OF_THIS_MACHINE: Final = (
    *("PORT", "FUSEWIRE_HOME", "LOCAL_CONCURRENCY", "LOCAL_CALLS_PER_WORKER", "LOCAL_HOSTS"),
    *("MIGRATION_DATABASE_URL", "CONSOLE"),
    *("FUSEWIRE_URL", "FUSEWIRE_KEY"),
)
"""What is read here, and by the command line beside it, and is no setting of the functions."""

_NEEDED: Final = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LC_\w+|TZ|TMPDIR|PYTHON\w+|(DY)?LD_\w+|OMP_\w+"
    r"|\w+_proxy|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|OPENSSL_CONF|PG[A-Z]+"
    r"|AWS_(DEFAULT_)?REGION|AWS_CA_BUNDLE|POWERTOOLS_\w+",
    re.IGNORECASE,
)
"""What a worker's libraries read: the system's, the proxies' and the certificates'."""
_OF_AWS: Final = re.compile(r"AWS_(?!EXECUTION_ENV)\w+")
_OF_GOOGLE: Final = re.compile(r"GOOGLE_\w+|CLOUDSDK_\w+|GCE_\w+|NO_GCE_CHECK")
"""The clouds' own variables, credentials among them."""
_KEPT_BY_AWS: Final = (
    "FUSEWIRE_SECRET_ARNS",
    "FUSEWIRE_DATABASE_SECRET_ARN",
    "FUSEWIRE_DATABASE_IAM",
)
"""With one of these every function reads a secret, or shows the database who it is, by AWS's credentials."""
_VENDORS: Final = "ProviderKeys"
_ADMINS: Final = "AdminApiKey"
_ADMIN_KEY: Final = "ADMIN_API_KEY"
_RETENTION: Final = "AI_RESPONSES_RETENTION_HOURS"
_RESPONSES_KEY: Final = "AI_RESPONSES_KEY"
"""It is in the secret of the providers' keys; only who keeps responses has a use for it."""
_HEALTH: Final = "health"
"""Live for whoever holds the bootstrap key, whom no authorizer is asked about. On AWS it reads no secret for that."""
_OF_THE_SYSTEM: Final = re.compile(r"PATH|HOME|LANG|LC_\w+|TZ|TMPDIR|PYTHON\w+|(DY)?LD_\w+|OMP_\w+|GGML_\w+|LLAMA_\w+")


def for_function(variables: Mapping[str, str], function: Function, vendors: Collection[str]) -> dict[str, str]:
    """Of a user's environment what a function gets on AWS by `infra/template.yaml`, and what its libraries read.

    That is the settings that the template names for it, what is kept in the secrets that it may read there, and, where
    it may call models, the clouds' own credentials. What says that this were AWS is left out.

    :param vendors: the names of the providers' settings; of these the secret keeps what the template doesn't name
    """
    wanted = function.variables | (frozenset(vendors) if _VENDORS in function.secrets else frozenset())
    if _ADMINS in function.secrets or function.name == _HEALTH:
        wanted |= {_ADMIN_KEY}
    if _RETENTION in function.variables and _VENDORS in function.secrets:
        wanted |= {_RESPONSES_KEY}
    patterns = [_NEEDED]
    if function.calls_models:
        patterns += [_OF_AWS, _OF_GOOGLE]
    elif any(variables.get(name, "false").strip() != "false" for name in _KEPT_BY_AWS):
        patterns.append(_OF_AWS)
    return {
        name: value
        for name, value in variables.items()
        if name in wanted or any(pattern.fullmatch(name) for pattern in patterns)
    }


def takes_several(function: Function, variables: Mapping[str, str]) -> bool:
    """Whether the runtime of a function takes several events at once: ours does, AWS's client doesn't."""
    return function.wrapper is not None and variables.get("FUSEWIRE_STREAMING", "on").strip() == "on"


def for_model(environ: Mapping[str, str]) -> dict[str, str]:
    """What the process of the local model needs: no setting, no credential."""
    return {name: value for name, value in environ.items() if _OF_THE_SYSTEM.fullmatch(name)}


@dataclass(frozen=True, slots=True)
class Environment:
    """`variables` go to every worker; blank ones count as unset, but for a database's, where blank is an error."""

    port: int
    home: Path
    concurrency: int
    """How many workers a function has at most."""
    calls_per_worker: int
    """How many calls a worker may have at once, where its function's runtime takes several."""
    hosts: tuple[str, ...]
    """The names, beside this machine's own, by which callers with keys may come."""
    variables: dict[str, str]
    migration_database_url: str | None
    """Whom to migrate and restore as on a server of the user's own; None without one."""
    written: frozenset[str]
    """The names in `.env`, blank ones too."""
    admin_key: KeySource
    """Where `ADMIN_API_KEY` stands: the environment wins."""
    console: bool
    """Whether the console is built and served."""


def read_environment(environ: Mapping[str, str], dotenv: Path) -> Environment:
    """The process's environment over the file's, with what is different on a laptop: no keys.

    :raises StartError: for a value that can't be used
    """
    try:
        written = dotenv_values(dotenv, interpolate=False)
    except (OSError, UnicodeDecodeError) as error:
        raise StartError(f"The file {dotenv} can't be read ({type(error).__name__}): it must be UTF-8 text.") from error
    _refuse_blank_databases(environ, written, dotenv)
    if "DATABASE_URL" in environ:
        # The file's is of the file's server: with it, a command that names another one would reach that server.
        written.pop("MIGRATION_DATABASE_URL", None)
    merged = _set(written) | _set(environ)
    variables = {"AUTH_MODE": "open"} | merged
    # For this process alone: the workers run as a role that may not change the schema.
    migration = variables.pop("MIGRATION_DATABASE_URL", None)
    if migration is not None and "DATABASE_URL" not in variables:
        raise StartError("MIGRATION_DATABASE_URL is for a server of your own: set DATABASE_URL as well, or neither.")
    return Environment(
        port=_number(merged, "PORT", 8000, 1, 65_535),
        home=home_folder(merged.get("FUSEWIRE_HOME", ".fusewire"), chosen="FUSEWIRE_HOME" in merged),
        concurrency=_number(merged, "LOCAL_CONCURRENCY", 8, 1, _MAX_WORKERS),
        calls_per_worker=_number(merged, "LOCAL_CALLS_PER_WORKER", 16, 1, _MAX_CALLS),
        hosts=_hosts(merged.get("LOCAL_HOSTS", None)),
        variables=variables,
        migration_database_url=migration or variables.get("DATABASE_URL"),
        written=frozenset(written),
        admin_key=_source_of("ADMIN_API_KEY", environ, merged),
        console=_is_on(merged.get("CONSOLE", "on")),
    )


def _refuse_blank_databases(environ: Mapping[str, str], written: Mapping[str, str | None], dotenv: Path) -> None:
    for name in _DATABASES:
        given, mend = (environ, "unset it") if name in environ else (written, f"delete its line in {dotenv}")
        if name in given and not (given[name] or "").strip():
            raise StartError(
                f"{name} is set but empty: it must be a libpq connection string such as postgresql://user@host/name. "
                f"For the Postgres of `make run`, {mend}."
            )


def _set(variables: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if value and value.strip()}


def _source_of(name: str, environ: Mapping[str, str], merged: Mapping[str, str]) -> KeySource:
    if name not in merged:
        return "nowhere"
    return "environment" if name in _set(environ) else ".env"


def _number(variables: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = variables.get(name, str(default)).strip()
    if not text.isdecimal() or not low <= int(text) <= high:
        raise StartError(f"{name}={text} can't be used: it must be a whole number from {low} to {high}.")
    return int(text)


def _is_on(text: str) -> bool:
    if text not in ("on", "off"):
        raise StartError(f"CONSOLE={text[:80]} can't be used: it must be on or off.")
    return text == "on"


def _hosts(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    names = tuple(each.strip().lower() for each in text.split(",") if each.strip())
    for name in names:
        if name != "*" and not _HOST.fullmatch(name):
            raise StartError(
                f"LOCAL_HOSTS={text[:80]} can't be used: it must be names of hosts without ports, separated by commas, "
                "or *."
            )
    return names
