"""The template's parameters: what infra/<stage>.env sets, what Terraform wrote, and the defaults of the rest.

All of them are passed with every deployment. CloudFormation keeps what isn't passed: a setting that was deleted from
the file would stay as it was, and so would the default of an older template (aws-sam-cli#4180, #7103).
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from local.cloudformation import Ref, load
from scripts.deploy.target import DeployError

_SETTING: Final = re.compile(r"([A-Za-z]\w*)=(.*)")
_URL: Final = ("DATABASE_URL", "DatabaseUrl")
"""The template adds to it who connects and whom to trust, so it takes no parameter as it is."""


def parameters_of(template: str, settings: str) -> dict[str, str]:
    """The template's parameters that settings as an `.env` file has them set.

    :raises DeployError: for a line that sets none, such as a key: keys belong into the secret
    """
    document = load(template)
    of_variable = dict([*_variables(document), _URL])
    found: dict[str, str] = {}
    for number, line in enumerate(settings.splitlines(), 1):
        if not (line := line.strip()) or line.startswith("#"):
            continue
        setting = _SETTING.fullmatch(line)
        if setting is None:
            raise DeployError(f"Line {number} of the settings isn't NAME=value.")
        name, value = str(setting[1]), str(setting[2]).strip()
        parameter = of_variable.get(name, name)
        if parameter not in document["Parameters"]:
            raise DeployError(
                f"{name} (line {number}) is no parameter of infra/template.yaml. Keys, and settings too long for "
                "a function's environment, go into the secret: bin/fusewire-deploy secrets set NAME."
            )
        if parameter in of_terraform(document):
            raise DeployError(f"{name} (line {number}) is what Terraform makes: see infra/<stage>.tfvars.")
        if parameter == _URL[1] and not re.fullmatch(document["Parameters"][parameter]["AllowedPattern"], value):
            raise DeployError(
                f"{name} (line {number}) is postgresql://HOST:PORT/NAME here, without user, password and options: the "
                "logins are in Secrets Manager, and DatabaseTls and DatabaseCa say whom to trust."
            )
        found[parameter] = value.strip("'") if value[:1] == "'" else value
    return found


def every_parameter(template: str, chosen: Mapping[str, str], terraform: Mapping[str, str]) -> dict[str, str]:
    """A value for each parameter of the template.

    :param chosen: what `parameters_of` found, and what the deployment decides
    :param terraform: what Terraform wrote, by the last part of the SSM parameter's name, such as `database_host`
    :raises DeployError: when Terraform hasn't written one of them
    """
    document = load(template)
    written = {parameter_name(name): value for name, value in terraform.items()}
    missing = [name for name in of_terraform(document) if name not in written]
    if missing:
        raise DeployError(
            f"Terraform hasn't written what {', '.join(missing)} of infra/template.yaml stand for: run `make deploy`."
        )
    defaults: dict[str, str] = {
        name: str(each["Default"]) if "Default" in each else written[name]
        for name, each in document["Parameters"].items()
    }
    return {**defaults, **chosen}


def _variables(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The functions' variables, of all or of one, with the parameters that they take."""
    functions = [document["Globals"]["Function"]]
    functions += [each["Properties"] for each in document["Resources"].values() if "Properties" in each]
    for function in functions:
        variables = function.get("Environment", {}).get("Variables", {})
        yield from ((name, value.name) for name, value in variables.items() if isinstance(value, Ref))


def of_terraform(document: Mapping[str, Any]) -> list[str]:
    """The parameters that Terraform gives a value: those without a default."""
    return [name for name, each in document["Parameters"].items() if "Default" not in each]


def parameter_name(name: str) -> str:
    """`database_host` as the template has it: `DatabaseHost`."""
    return "".join(word.capitalize() for word in name.split("_"))
