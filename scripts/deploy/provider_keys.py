"""`bin/fusewire-deploy secrets set NAME`, `remove NAME`, `list`: the vendors' keys, one by one.

A value comes from the terminal, where it isn't shown, or from standard input; never from an argument, which a shell
keeps and `ps` shows. It is never printed.
"""

import getpass
import json
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from scripts.deploy.target import PROJECT, DeployError, Target

_NAME: Final = re.compile(r"[A-Z][A-Z0-9_]*")
_USE: Final = "bin/fusewire-deploy secrets set NAME | remove NAME | list"


def secrets(words: Sequence[str], target: Target, session: Any, read: Callable[[], str] | None = None) -> None:  # noqa: ANN401 - boto3 has no types
    """Change the secret that holds the vendors' keys, or print the names in it.

    :param read: where the value comes from; else the terminal or standard input
    :raises DeployError: for other words, a name that isn't a setting's, an empty value
    """
    client = session.client("secretsmanager")
    match words:
        case ["list"]:
            for name in sorted(_keys(client, _arn(session, target))):
                _print(name)
        case ["set", name]:
            _ensure_known(name)
            value = (read or _read)().strip()
            if not value:
                raise DeployError(f"No value was given for {name}.")
            _change(client, _arn(session, target), lambda keys: {**keys, name: value})
            _print(
                f"{name} is set. The functions read it within 5 minutes, or as soon as a vendor refuses the old one."
            )
        case ["remove", name]:
            arn = _arn(session, target)
            if name not in _keys(client, arn):
                raise DeployError(f"{name} isn't in the secret.")
            _change(client, arn, lambda keys: {key: value for key, value in keys.items() if key != name})
            _print(f"{name} is removed.")
        case _:
            raise DeployError(f"Use: {_USE}.")


def _ensure_known(name: str) -> None:
    """:raises DeployError: for a name that no function would read"""
    settings = (PROJECT / "docs" / "operations.md").read_text(encoding="utf-8")
    if not _NAME.fullmatch(name) or (f"| `{name}`" not in settings and f", `{name}`" not in settings):
        raise DeployError(f"{name} is no setting of docs/operations.md, section 6.")


def _arn(session: Any, target: Target) -> str:  # noqa: ANN401
    client, name = session.client("ssm"), f"/fusewire/{target.stage}/provider_keys_secret_arn"
    try:
        return str(client.get_parameter(Name=name)["Parameter"]["Value"])
    except client.exceptions.ParameterNotFound:
        raise DeployError(f"There is no {name} in {target.region}: run `make deploy` first.") from None


def _keys(client: Any, arn: str) -> dict[str, str]:  # noqa: ANN401
    """What the secret holds; nothing before it has a value."""
    try:
        text = client.get_secret_value(SecretId=arn)["SecretString"]
    except client.exceptions.ResourceNotFoundException:
        return {}
    try:
        keys = json.loads(text)
    except ValueError:
        keys = None
    if not isinstance(keys, dict):
        raise DeployError(f"The secret {arn} holds no JSON object, so nothing was changed.")
    return keys


def _change(client: Any, arn: str, change: Callable[[dict[str, str]], dict[str, str]]) -> None:  # noqa: ANN401
    client.put_secret_value(SecretId=arn, SecretString=json.dumps(change(_keys(client, arn))))


def _read() -> str:
    return getpass.getpass("Value (not shown): ") if sys.stdin.isatty() else sys.stdin.read()


def _print(text: str) -> None:
    sys.stdout.write(text + "\n")
