"""The alarms and the dashboard of infra/template.yaml: no linter sees a metric that nobody emits."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from fusewire.ai.registry import Registry
from fusewire.config import load_settings
from fusewire.logs import SERVICE
from fusewire.metrics import BY_PROVIDER, METRICS
from local.cloudformation import load
from tests.support.documents import OPERATIONS, PROJECT, code, table
from tests.unit.infra.test_queries import TEMPLATE, resources

RESOURCES = resources()
ALARMS = {name: each["Properties"] for name, each in RESOURCES.items() if each["Type"] == "AWS::CloudWatch::Alarm"}
PARAMETERS: Final[dict[str, Any]] = load(TEMPLATE.read_text())["Parameters"]
OWN: Final = "fusewire/${Stage}"
# AWS's own, with the set of dimensions that each is kept by.
AWS: Final = {
    ("AWS/Lambda", "Errors"): {"FunctionName"},
    ("AWS/Lambda", "Throttles"): {"FunctionName"},
    ("AWS/Lambda", "ConcurrentExecutions"): {"FunctionName"},
    ("AWS/ApiGateway", "5XXError"): {"ApiName", "Stage"},
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible"): {"QueueName"},
    ("AWS/RDS", "CPUUtilization"): {"DBInstanceIdentifier"},
    ("AWS/RDS", "CPUCreditBalance"): {"DBInstanceIdentifier"},
    ("AWS/RDS", "DatabaseConnections"): {"DBInstanceIdentifier"},
    ("AWS/RDS", "FreeStorageSpace"): {"DBInstanceIdentifier"},
}

Metric = tuple[str, str, dict[str, str]]
"""Namespace, name, dimensions."""


def text(value: Any) -> str:  # noqa: ANN401 - YAML is anything
    """A value as `Fn::Sub` would have it: `!Ref X` is `${X}`."""
    if not isinstance(value, dict):
        return str(value)
    [(function, argument)] = value.items()
    return str(argument) if function == "Sub" else f"${{{argument}}}"


def of_alarm(alarm: dict[str, Any]) -> Iterator[Metric]:
    for metric in [alarm, *(each.get("MetricStat", {}).get("Metric", {}) for each in alarm.get("Metrics", ()))]:
        if "MetricName" in metric:
            dimensions = {each["Name"]: text(each["Value"]) for each in metric["Dimensions"]}
            yield text(metric["Namespace"]), metric["MetricName"], dimensions


def widgets() -> list[dict[str, Any]]:
    body = RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Sub"]
    bare_numbers = re.sub(r'(?<!["\w/:{])\$\{(\w+)\}(?=[,}])', r'"${\1}"', body)
    result: list[dict[str, Any]] = json.loads(bare_numbers)["widgets"]
    return [widget["properties"] for widget in result]


def of_widget(widget: dict[str, Any]) -> Iterator[Metric]:
    for row in widget["metrics"]:
        names = [each for each in row if isinstance(each, str)]
        if names:
            namespace, name, *pairs = names
            yield namespace, name, dict(zip(pairs[::2], pairs[1::2], strict=True))


def searches() -> list[str]:
    return [
        row[0]["expression"]
        for widget in widgets()
        for row in widget["metrics"]
        if isinstance(row[0], dict) and "expression" in row[0]
    ]


def is_emitted(metric: Metric) -> bool:
    namespace, name, dimensions = metric
    if namespace == OWN:
        if "provider" in dimensions:
            return name in BY_PROVIDER and dimensions == {"service": SERVICE, "provider": dimensions["provider"]}
        return name in METRICS and dimensions == {"service": SERVICE}
    return AWS.get((namespace, name)) == dimensions.keys()


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_watches_metrics_that_are_emitted_by_their_whole_set_of_dimensions(name: str) -> None:
    metrics = list(of_alarm(ALARMS[name]))
    assert metrics
    for metric in metrics:
        assert is_emitted(metric), metric


def test_the_dashboard_shows_metrics_that_are_emitted() -> None:
    shown = [metric for widget in widgets() for metric in of_widget(widget)]
    for metric in shown:
        assert is_emitted(metric), metric
    assert {name for namespace, name, _ in shown if namespace == OWN} == METRICS.keys()


def test_the_dashboard_searches_for_what_is_known_by_provider() -> None:
    found = []
    for search in searches():
        result = re.fullmatch(r"SEARCH\('\{(.+)\} MetricName=\"(\w+)\"', '(Sum|Maximum)', 300\)", search)
        assert result, search
        assert result[1] == f"{OWN},service,provider"
        found.append(result[2])
    assert sorted(found) == sorted(BY_PROVIDER)


def test_a_widget_lies_on_no_other_and_within_the_board() -> None:
    body = RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Sub"]
    places = re.findall(r'"x": (\d+), "y": (\d+), "width": (\d+), "height": (\d+)', body)
    assert len(places) == len(widgets())
    taken: set[tuple[int, int]] = set()
    for x, y, width, height in (map(int, place) for place in places):
        cells = {(column, row) for column in range(x, x + width) for row in range(y, y + height)}
        assert not cells & taken
        assert x + width <= 24
        taken |= cells


def test_what_the_template_refers_to_exists() -> None:
    body = RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Sub"]
    named = {name.partition(".")[0] for name in re.findall(r"\$\{([\w.]+)\}", body)}
    for name in named - {"Stage", "AiBudgetAlertThreshold", "AiCircuitBreakerThreshold", "DatabaseInstanceId"}:
        assert name in RESOURCES, name


def test_the_budgets_alarms_are_at_the_thresholds_that_are_set() -> None:
    settings = load_settings({})
    assert ALARMS["BudgetAlertAlarm"]["Threshold"] == {"Ref": "AiBudgetAlertThreshold"}
    assert ALARMS["BudgetOpenAlarm"]["Threshold"] == {"Ref": "AiCircuitBreakerThreshold"}
    assert (str(settings.ai_budget_alert_threshold), str(settings.ai_circuit_breaker_threshold)) == ("0.8", "0.95")


def test_every_vendor_is_watched_and_the_worst_of_them_counts() -> None:
    alarm = ALARMS["FailingProviderAlarm"]
    watched = {metric[2]["provider"] for metric in of_alarm(alarm)}
    assert watched == set(Registry(load_settings({})).ids())
    [expression] = [each["Expression"] for each in alarm["Metrics"] if "Expression" in each]
    filled = ", ".join(f"FILL({each['Id']}, 0)" for each in alarm["Metrics"] if "MetricStat" in each)
    assert expression == f"MAX([{filled}])"


def test_the_alarm_on_connections_can_fire_on_the_smallest_instance() -> None:
    """80 is what infra/terraform/README.md says of a db.t4g.micro."""
    assert "`db.t4g.micro` has room for about 80" in (PROJECT / "infra/terraform/README.md").read_text()
    assert 40 <= PARAMETERS["DatabaseConnectionsAlarm"]["Default"] < 80
    assert ALARMS["TooManyConnectionsAlarm"]["Threshold"] == {"Ref": "DatabaseConnectionsAlarm"}


def test_every_parameter_of_an_alarm_has_a_default_that_is_a_number() -> None:
    for alarm in ALARMS.values():
        if isinstance(alarm["Threshold"], dict):
            assert isinstance(PARAMETERS[alarm["Threshold"]["Ref"]]["Default"], int | float)


def test_every_function_is_watched_for_errors_and_throttles() -> None:
    functions = {f"${{{name}}}" for name, each in RESOURCES.items() if each["Type"] == "AWS::Serverless::Function"}
    # A wrong key is an error of the authorizer's, by Lambda's count: nobody is woken for it.
    for metric, left_out in (("Errors", {"${AuthorizerFunction}"}), ("Throttles", set())):
        watched = [
            dimensions["FunctionName"]
            for alarm in ALARMS.values()
            for _, name, dimensions in of_alarm(alarm)
            if name == metric
        ]
        assert sorted(watched) == sorted(functions - left_out)


def test_an_alarm_adds_up_no_more_metrics_than_cloudwatch_takes() -> None:
    for alarm in ALARMS.values():
        assert len(alarm.get("Metrics", ())) <= 10
        returned = [each for each in alarm.get("Metrics", ()) if each.get("ReturnData", True)]
        assert len(returned) == (1 if "Metrics" in alarm else 0)


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_tells_the_operators_that_it_began_and_that_it_is_over(name: str) -> None:
    alarm = ALARMS[name]
    assert alarm["AlarmActions"] == alarm["OKActions"] == [{"Ref": "AlarmTopic"}]
    assert alarm["TreatMissingData"] in ("ignore", "notBreaching")
    assert alarm["AlarmDescription"].endswith(".")


def test_the_topic_is_encrypted_with_a_key_that_cloudwatch_may_use() -> None:
    assert RESOURCES["AlarmTopic"]["Properties"]["KmsMasterKeyId"] == {"Ref": "AlarmKey"}
    statements = RESOURCES["AlarmKey"]["Properties"]["KeyPolicy"]["Statement"]
    [granted] = [each for each in statements if each["Principal"] == {"Service": "cloudwatch.amazonaws.com"}]
    assert granted["Action"] == ["kms:Decrypt", "kms:GenerateDataKey*"]
    [published] = RESOURCES["AlarmTopicPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert published["Principal"] == granted["Principal"]
    own_account = {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    assert published["Condition"] == granted["Condition"] == own_account


@pytest.mark.parametrize("manual", OPERATIONS, ids=["en", "ja"])
def test_the_manual_says_of_every_alarm_what_to_do(manual: Path) -> None:
    under = dict(zip(OPERATIONS, ("alarms", "アラーム"), strict=True))
    said = [code(row[0])[0] for row in table(manual, 3, under=under[manual])]
    assert said == [text(alarm["AlarmName"]).replace("fusewire-${Stage}-", "") for alarm in ALARMS.values()]
