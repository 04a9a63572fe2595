"""The real infra/template.yaml: what AWS would deploy is what `make run` serves."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from fusewire.http.paths import OTHER_PATHS
from fusewire.http.routes import ROUTES
from local.schedule import next_time
from local.template import Template, read_template
from tests.support.routes import handled_by

_PROJECT = Path(__file__).resolve().parents[3]
_FILE = _PROJECT / "infra" / "template.yaml"


@pytest.fixture(scope="module")
def template() -> Template:
    return read_template(_FILE, {})


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The same file, read by nothing of ours."""

    class Loader(yaml.SafeLoader):
        """Takes CloudFormation's short functions for their text."""

    Loader.add_multi_constructor("!", lambda loader, suffix, node: f"!{suffix} {node.value}")
    result: dict[str, Any] = yaml.load(_FILE.read_text(), Loader)  # noqa: S506 - a SafeLoader
    return result


def events(document: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [
        event["Properties"]
        for resource in document["Resources"].values()
        for event in resource["Properties"].get("Events", {}).values()
        if event["Type"] == kind
    ]


def test_every_folder_is_a_function_and_every_function_a_folder(template: Template) -> None:
    folders = {path.parent for path in (_PROJECT / "functions").glob("*/app.py")}
    assert {function.folder for function in template.functions} == folders
    assert len(template.functions) == len(folders)
    assert {function.name for function in template.functions} == {folder.name for folder in folders}


def test_every_route_is_served(template: Template, document: dict[str, Any]) -> None:
    served = [(event["Method"], event["Path"]) for event in events(document, "Api")]
    wanted = [each for each in served if each[1] not in OTHER_PATHS]
    assert {("ANY", path) for path in OTHER_PATHS} == {*served} - {*wanted}
    assert sorted((route.method, route.path) for route in template.routes) == sorted(wanted)
    assert len(set(wanted)) == len(wanted)
    assert {route.function for route in template.routes} <= {function.name for function in template.functions}
    assert all(route.path.startswith(("/api/v1/", "/v1/")) for route in template.routes)


@pytest.mark.parametrize("mode", ["open", "keys"])
def test_what_is_for_everybody_is_known_whether_or_not_keys_are_asked_for(mode: str) -> None:
    routes = read_template(_FILE, {"AUTH_MODE": mode}).routes
    for_everybody = {route.path for route in ROUTES if route.access == "everybody"}
    assert {route.path for route in routes if route.for_everybody} == for_everybody
    assert {route.path for route in routes if route.authorizer is None} == for_everybody
    assert {route.authorizer for route in routes} == {None, "authorizer"}


def test_the_template_has_the_routes_of_the_code_each_at_the_function_that_handles_it(template: Template) -> None:
    """`functions/*/app.py` register a handler for each of `fusewire.http.routes`."""
    handled = {
        (route.method, path, file.parent.name)
        for file in (_PROJECT / "functions").glob("*/app.py")
        for route in handled_by(file)
        for path in route.paths
    }
    assert {(route.method, route.path, route.function) for route in template.routes} == handled
    assert {(method, path) for method, path, _ in handled} == {
        (route.method, path) for route in ROUTES for path in route.paths
    }


def test_nothing_is_served_without_an_authorizer(tmp_path: Path) -> None:
    file = tmp_path / "template.yaml"
    text = _FILE.read_text()
    assert text.count("DefaultAuthorizer: ApiKey") == 1
    file.write_text(text.replace("DefaultAuthorizer: ApiKey", ""))
    with pytest.raises(KeyError, match="DefaultAuthorizer"):
        read_template(file, {})


def test_what_streams_on_aws_streams_here(template: Template, document: dict[str, Any]) -> None:
    streaming = {event["Path"] for event in events(document, "Api") if "ResponseTransferMode" in event}
    functions = {route.function for route in template.routes if route.path in streaming}
    assert functions == {"complete"}
    assert {function.name for function in template.functions if function.wrapper} == functions
    # Any other value is ignored by SAM without a word.
    modes = {event.get("ResponseTransferMode", "RESPONSE_STREAM") for event in events(document, "Api")}
    assert modes == {"RESPONSE_STREAM"}


def test_a_wrapper_is_there_and_can_be_run(template: Template) -> None:
    (wrapper,) = {function.wrapper for function in template.functions if function.wrapper}
    assert wrapper == _PROJECT / "layers" / "core" / "bin" / "stream"
    assert wrapper.stat().st_mode & 0o111


def test_globals_and_a_functions_own_properties(template: Template, document: dict[str, Any]) -> None:
    common = document["Globals"]["Function"]
    by_name = {function.name: function for function in template.functions}
    assert by_name["health"].timeout_seconds == common["Timeout"]
    assert by_name["complete"].timeout_seconds == document["Resources"]["CompleteFunction"]["Properties"]["Timeout"]
    assert all(function.handler == "app.handler" for function in template.functions)
    default = document["Parameters"]["MemoryMb"]["Default"]
    assert all(function.memory_mb == default for function in template.functions)


def test_the_month_ends_in_the_budgets_time_zone(template: Template) -> None:
    (schedule,) = template.schedules
    assert (schedule.function, schedule.timezone) == ("monthly_reset", "UTC")
    assert "<aws.scheduler.scheduled-time>" in schedule.input
    (elsewhere,) = read_template(_FILE, {"AI_BUDGET_TIMEZONE": "Asia/Tokyo"}).schedules
    assert elsewhere.timezone == "Asia/Tokyo"


def test_every_schedule_can_be_run(template: Template) -> None:
    now = datetime(2026, 11, 15, tzinfo=UTC)
    assert [next_time(schedule, now) for schedule in template.schedules] == [datetime(2026, 12, 1, tzinfo=UTC)]


def test_a_reference_to_what_is_no_parameter_stops_it(tmp_path: Path) -> None:
    file = tmp_path / "template.yaml"
    text = _FILE.read_text()
    wanted = "ScheduleExpressionTimezone: !Ref "
    assert wanted + "BudgetTimezone" in text
    file.write_text(text.replace(wanted + "BudgetTimezone", wanted + "Nothing"))
    with pytest.raises(KeyError, match="Nothing"):
        read_template(file, {})


def test_path_parameters_and_other_events(tmp_path: Path) -> None:
    file = tmp_path / "template.yaml"
    file.write_text(
        """
        Resources:
          Table: {Type: AWS::DynamoDB::Table, Properties: {}}
          Api:
            Type: AWS::Serverless::Api
            Properties:
              Auth: {DefaultAuthorizer: Key, Authorizers: {Key: {FunctionArn: !Ref F.Alias}}}
          F:
            Type: AWS::Serverless::Function
            Properties:
              CodeUri: ../functions/f
              Handler: a.b
              Timeout: 3
              MemorySize: 128
              Events:
                One: {Type: Api, Properties: {Method: get, Path: "/calls/{request_id}"}}
                Two: {Type: SNS, Properties: {Topic: !Ref Topic}}
                Three: {Type: ScheduleV2, Properties: {ScheduleExpression: "cron(0 0 1 * ? *)"}}
        """
    )
    read = read_template(file, {})
    assert [(route.method, route.path, route.function) for route in read.routes] == [
        ("GET", "/calls/{request_id}", "f")
    ]
    assert [(s.timezone, s.input) for s in read.schedules] == [("UTC", "{}")]
    assert read.functions[0].folder == tmp_path.parent / "functions" / "f"
    assert read.functions[0].wrapper is None
