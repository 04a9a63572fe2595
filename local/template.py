"""`infra/template.yaml` as the laptop needs it: functions, routes and who guards them, schedules, and the log's saved
queries. What AWS deploys is what runs here."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

_LAYER_ROOT: Final = "/opt/"
_QUERY: Final = "AWS::Logs::QueryDefinition"


@dataclass(frozen=True, slots=True)
class Function:
    """One Lambda function."""

    name: str
    folder: Path
    handler: str
    timeout_seconds: float
    memory_mb: int
    wrapper: Path | None
    """The script in the layer that AWS_LAMBDA_EXEC_WRAPPER names."""


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    """As in API Gateway: `/calls/{request_id}`."""
    function: str
    authorizer: str | None = None
    """The function that is asked before this one; None where nobody is."""
    for_everybody: bool = False
    """Whether no key is asked for even where others need one."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """What API Gateway itself answers: one of the template's GatewayResponses."""

    status: int
    headers: Mapping[str, str]
    body: str


@dataclass(frozen=True, slots=True)
class Schedule:
    expression: str
    timezone: str
    input: str
    function: str


@dataclass(frozen=True, slots=True)
class Template:
    functions: tuple[Function, ...]
    routes: tuple[Route, ...]
    schedules: tuple[Schedule, ...]
    refusals: Mapping[str, Refusal] = field(default_factory=dict)
    """By API Gateway's words for them: `UNAUTHORIZED`, `ACCESS_DENIED`, `AUTHORIZER_FAILURE`."""


@dataclass(frozen=True, slots=True)
class _Ref:
    name: str


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short functions; only `!Ref` and the text of `!Sub` are looked at."""


def _tagged(loader: _Loader, suffix: str, node: yaml.Node) -> object:
    if isinstance(node, yaml.ScalarNode) and suffix in ("Ref", "Sub"):
        text = str(loader.construct_scalar(node))
        return _Ref(text) if suffix == "Ref" else text
    return None


_Loader.add_multi_constructor("!", _tagged)


def read_template(path: Path, variables: Mapping[str, str]) -> Template:
    """The functions behind `path`, whose parameters stand for the settings that they feed, or else for their defaults.

    :param variables: with AUTH_MODE=keys, routes have their authorizer
    :raises KeyError: when a function lacks what SAM requires
    """
    document = _read(path)
    defaults = document.get("Globals", {}).get("Function", {})
    parameters = _parameters(document, defaults, variables)
    resources: dict[str, Any] = document["Resources"]
    functions = {
        name: _function(defaults | resource["Properties"], path.parent)
        for name, resource in resources.items()
        if resource["Type"] == "AWS::Serverless::Function"
    }
    api: dict[str, Any] = next(
        (each["Properties"] for each in resources.values() if each["Type"] == "AWS::Serverless::Api"), {}
    )
    guard = _authorizer(api, functions) if variables.get("AUTH_MODE") == "keys" else None
    routes, schedules = [], []
    for name, function in functions.items():
        for kind, event in _events(resources[name]["Properties"]):
            if kind == "Api":
                everybody = event.get("Auth", {}).get("Authorizer") == "NONE"
                own = None if everybody else guard
                routes.append(Route(event["Method"].upper(), event["Path"], function.name, own, everybody))
            elif kind == "ScheduleV2":
                zone = event.get("ScheduleExpressionTimezone", "UTC")
                zone = parameters[zone.name] if isinstance(zone, _Ref) else zone
                schedules.append(Schedule(event["ScheduleExpression"], zone, event.get("Input", "{}"), function.name))
    return Template(tuple(functions.values()), tuple(routes), tuple(schedules), _refusals(api))


def _authorizer(api: Mapping[str, Any], functions: Mapping[str, Function]) -> str:
    """The name of the function behind the API's default authorizer.

    :raises KeyError: when there is none: with keys asked for, nothing is served without it
    """
    auth = api["Auth"]
    reference = auth["Authorizers"][auth["DefaultAuthorizer"]]["FunctionArn"]
    return functions[reference.name.removesuffix(".Alias")].name


def _refusals(api: Mapping[str, Any]) -> dict[str, Refusal]:
    return {
        kind: Refusal(
            int(told["StatusCode"]),
            told["ResponseParameters"]["Headers"],
            told["ResponseTemplates"]["application/json"],
        )
        for kind, told in api.get("GatewayResponses", {}).items()
        if "StatusCode" in told
    }


def saved_queries(path: Path) -> dict[str, str]:
    """The text of each CloudWatch Logs Insights query, by the last part of its name."""
    queries = [each["Properties"] for each in _read(path)["Resources"].values() if each["Type"] == _QUERY]
    return {query["Name"].rpartition("/")[2]: query["QueryString"] for query in queries}


def _read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a SafeLoader
    return document


def _function(properties: Mapping[str, Any], folder: Path) -> Function:
    code = (folder / properties["CodeUri"]).resolve()
    wrapper = properties.get("Environment", {}).get("Variables", {}).get("AWS_LAMBDA_EXEC_WRAPPER")
    layer = (folder / "../layers/core").resolve()
    return Function(
        name=code.name,
        folder=code,
        handler=properties["Handler"],
        timeout_seconds=float(properties["Timeout"]),
        memory_mb=int(properties["MemorySize"]),
        wrapper=layer / wrapper.removeprefix(_LAYER_ROOT) if wrapper else None,
    )


def _events(properties: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for event in properties.get("Events", {}).values():
        yield event["Type"], event["Properties"]


def _parameters(
    document: Mapping[str, Any], defaults: Mapping[str, Any], variables: Mapping[str, str]
) -> dict[str, str]:
    values = {name: str(told["Default"]) for name, told in document.get("Parameters", {}).items() if "Default" in told}
    for variable, value in defaults.get("Environment", {}).get("Variables", {}).items():
        if isinstance(value, _Ref) and variable in variables:
            values[value.name] = variables[variable]
    return values
