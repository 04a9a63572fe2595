"""`infra/template.yaml` as the laptop needs it: functions, routes with their authorizer, and schedules. What AWS
deploys is what runs here."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fusewire.http.paths import OTHER_PATHS
from local.cloudformation import Ref, load

_LAYER_ROOT: Final = "/opt/"
_WRAPPER: Final = "AWS_LAMBDA_EXEC_WRAPPER"
_SECRET: Final = re.compile(r"\b(\w+)SecretArn\b")
_CALLS_MODELS: Final = Ref("UsesProviders")


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
    variables: frozenset[str] = frozenset()
    """The names of those that it gets on AWS."""
    secrets: frozenset[str] = frozenset()
    """What it reads in Secrets Manager of more variables, by the parameters that have their ARNs: `ProviderKeys`,
    `AdminApiKey`."""
    calls_models: bool = False
    """Whether its role may, which stands for the clouds' own credentials."""


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    """As in API Gateway: `/calls/{request_id}`."""
    function: str
    authorizer: str | None = None
    """The function that is asked before this one about the caller's key; None where no key matters."""
    for_everybody: bool = False
    """Whether it needs no key even where others need one."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A response of API Gateway's own: one of the template's GatewayResponses."""

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
    """By API Gateway's response types: `UNAUTHORIZED`, `ACCESS_DENIED`, `AUTHORIZER_FAILURE`."""


def read_template(path: Path, variables: Mapping[str, str]) -> Template:
    """The functions behind `path`, whose parameters stand for the settings that they feed, or else for their defaults.

    :raises KeyError: when a function lacks what SAM requires, or the API its authorizer
    """
    document = load(path.read_text(encoding="utf-8"))
    defaults = document.get("Globals", {}).get("Function", {})
    parameters = _parameters(document, defaults, variables)
    resources: dict[str, Any] = document["Resources"]
    functions = {
        name: _function(
            defaults | resource["Properties"],
            _variables_of(defaults) | _variables_of(resource["Properties"]),
            path.parent,
            parameters,
        )
        for name, resource in resources.items()
        if resource["Type"] == "AWS::Serverless::Function"
    }
    api: dict[str, Any] = next(
        (each["Properties"] for each in resources.values() if each["Type"] == "AWS::Serverless::Api"), {}
    )
    guard = _authorizer(api, functions)
    routes, schedules = [], []
    for name, function in functions.items():
        for kind, event in _events(resources[name]["Properties"]):
            if kind == "Api":
                everybody = event.get("Auth", {}).get("Authorizer") == "NONE"
                own = None if everybody else guard
                if event["Path"] in OTHER_PATHS:  # the gateway here knows by itself what isn't a route
                    continue
                routes.append(Route(event["Method"].upper(), event["Path"], function.name, own, everybody))
            elif kind == "ScheduleV2":
                zone = event.get("ScheduleExpressionTimezone", "UTC")
                zone = parameters[zone.name] if isinstance(zone, Ref) else zone
                schedules.append(Schedule(event["ScheduleExpression"], zone, event.get("Input", "{}"), function.name))
    return Template(tuple(functions.values()), tuple(routes), tuple(schedules), _refusals(api))


def _authorizer(api: Mapping[str, Any], functions: Mapping[str, Function]) -> str:
    """The name of the function behind the API's default authorizer.

    :raises KeyError: when there is none: nothing is served without it
    """
    auth = api["Auth"]
    reference = auth["Authorizers"][auth["DefaultAuthorizer"]]["FunctionArn"]
    return functions[reference.name.removesuffix(".Alias")].name


def _refusals(api: Mapping[str, Any]) -> dict[str, Refusal]:
    return {
        kind: Refusal(
            int(response["StatusCode"]),
            response["ResponseParameters"]["Headers"],
            response["ResponseTemplates"]["application/json"],
        )
        for kind, response in api.get("GatewayResponses", {}).items()
        if "StatusCode" in response
    }


def _variables_of(properties: Mapping[str, Any]) -> dict[str, Any]:
    variables: dict[str, Any] = properties.get("Environment", {}).get("Variables", {})
    return variables


def _function(
    properties: Mapping[str, Any], variables: Mapping[str, Any], folder: Path, parameters: Mapping[str, str]
) -> Function:
    """:param variables: the global ones and its own"""
    memory = properties["MemorySize"]
    code = (folder / properties["CodeUri"]).resolve()
    wrapper = variables.get(_WRAPPER)
    layer = (folder / "../layers/core").resolve()
    return Function(
        name=code.name,
        folder=code,
        handler=properties["Handler"],
        timeout_seconds=float(properties["Timeout"]),
        memory_mb=int(parameters[memory.name] if isinstance(memory, Ref) else memory),
        wrapper=layer / wrapper.removeprefix(_LAYER_ROOT) if wrapper else None,
        variables=frozenset(variables) - {_WRAPPER},
        secrets=frozenset(_SECRET.findall(str(variables.get("FUSEWIRE_SECRET_ARNS", "")))),
        calls_models=_CALLS_MODELS in properties.get("Policies", ()),
    )


def _events(properties: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for event in properties.get("Events", {}).values():
        yield event["Type"], event["Properties"]


def _parameters(
    document: Mapping[str, Any], defaults: Mapping[str, Any], variables: Mapping[str, str]
) -> dict[str, str]:
    parameters = document.get("Parameters", {})
    values = {name: str(parameter["Default"]) for name, parameter in parameters.items() if "Default" in parameter}
    for variable, value in _variables_of(defaults).items():
        if isinstance(value, Ref) and variable in variables:
            values[value.name] = variables[variable]
    return values
