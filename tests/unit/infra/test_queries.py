"""The saved queries of infra/template.yaml: each can be parsed, and names nothing that the code doesn't emit."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from fusewire import logs
from fusewire.ai.failures import FailureKind
from tests.support.documents import OPERATIONS, PROJECT, code, table
from tests.support.insights import parse, saved_queries
from tests.unit.docs import source

TEMPLATE = PROJECT / "infra/template.yaml"
QUERIES = saved_queries(TEMPLATE)
OF_A_LINE = {"@timestamp", "@message"}
OF_THE_RUNTIME = {"errorType", "type", "record"}
"""What AWS's own client logs of an exception that a handler raised, and Lambda of an invocation that ends badly."""
OF_AWS = {"gateway.access", "platform.report", "platform.initReport", "platform.restoreReport", "timeout", "error"}
"""The access log's event, and what Lambda itself writes."""
EACH = pytest.mark.parametrize("name", QUERIES)


def resources() -> dict[str, Any]:
    """The template's, short functions as `{name: argument}`."""

    class Loader(yaml.SafeLoader):
        """Plain YAML, with CloudFormation's tags."""

    def tagged(loader: Loader, suffix: str, node: yaml.Node) -> object:
        if isinstance(node, yaml.ScalarNode):
            return {suffix: loader.construct_scalar(node)}
        if isinstance(node, yaml.SequenceNode):
            return {suffix: loader.construct_sequence(node, deep=True)}
        return {suffix: None}

    Loader.add_multi_constructor("!", tagged)
    result: dict[str, Any] = yaml.load(TEMPLATE.read_text(), Loader)["Resources"]  # noqa: S506 - a SafeLoader
    return result


def access_fields() -> set[str]:
    """What a line of the API's access log has."""
    return set(json.loads(resources()["Api"]["Properties"]["AccessLogSetting"]["Format"]))


@pytest.fixture(scope="module")
def fields() -> set[str]:
    return source.fields()


@pytest.fixture(scope="module")
def events() -> set[str]:
    return set(source.events())


@EACH
def test_a_query_names_only_fields_that_some_line_has(name: str, fields: set[str]) -> None:
    query = parse(QUERIES[name])
    roots = {field if field.startswith("@") else field.partition(".")[0] for field in query.names}
    assert roots - OF_A_LINE - OF_THE_RUNTIME <= fields | access_fields()
    ours = {*logs._FIELDS, "timestamp", "level", "event", "request_id"}
    assert roots - OF_A_LINE - OF_THE_RUNTIME - access_fields() <= ours


@EACH
def test_a_query_asks_for_events_levels_and_kinds_that_there_are(name: str, events: set[str]) -> None:
    kinds = {*FailureKind, "expired", "abandoned", "no_usage"}
    known = events | kinds | OF_AWS | {"WARNING", "ERROR", "budget.reset", "REQUEST_ID"}
    assert parse(QUERIES[name]).values <= known


@EACH
def test_a_query_begins_with_what_it_shows_and_ends(name: str) -> None:
    text = QUERIES[name]
    assert re.match(r"# [A-Z].*\.\n", text)
    assert len(text) < 10_000
    query = parse(text)
    assert query.columns
    assert len(set(query.columns)) == len(query.columns)


def test_trouble_shows_a_function_that_does_not_start_and_no_wrong_key() -> None:
    """By the lines that AWS's own client writes of what a handler, or its import, raises."""
    lines = [
        json.dumps({"timestamp": "2026-11-26T12:00:00Z", "level": "ERROR", "errorType": kind, "errorMessage": text})
        for kind, text in (("UnauthorizedError", "Unauthorized"), ("Runtime.ImportModuleError", "No module"))
    ]
    assert [row["errorType"] for row in parse(QUERIES["trouble"]).run(lines)] == ["Runtime.ImportModuleError"]


def access_line(**values: str) -> str:
    """A line of the access log as API Gateway writes it by the template's format: `-` for what has no value."""
    text = resources()["Api"]["Properties"]["AccessLogSetting"]["Format"]
    return re.sub(r"\$context\.([\w.]+)", lambda found: values.get(found[1].rpartition(".")[2], "-"), text)


REFUSED_BY_THE_GATEWAY = {
    "WAF_FILTERED": {"status": "403"},
    "THROTTLED": {"status": "429"},
    "UNAUTHORIZED": {"status": "401"},
    "AUTHORIZER_FAILURE": {"status": "503"},
    "INTEGRATION_TIMEOUT": {"status": "504", "integrationErrorMessage": "Execution failed due to a timeout error"},
    "INTEGRATION_FAILURE": {"status": "502", "integrationErrorMessage": "Malformed Lambda proxy response"},
    "REQUEST_TOO_LARGE": {"status": "413"},
}
"""The types of `GatewayResponses`:
https://docs.aws.amazon.com/apigateway/latest/developerguide/supported-gateway-response-types.html"""


def test_gateway_finds_what_api_gateway_answered_by_itself_and_no_answer_of_a_function() -> None:
    refused = [access_line(responseType=kind, **more) for kind, more in REFUSED_BY_THE_GATEWAY.items()]
    passed = [access_line(status=status, responseLatency="12", key_id="key_1") for status in ("200", "402", "500")]
    rows = parse(QUERIES["gateway"]).run([*refused, *passed, refused[0]])
    assert {row["response_type"]: row["status"] for row in rows} == {
        kind: more["status"] for kind, more in REFUSED_BY_THE_GATEWAY.items()
    }
    assert (rows[0]["response_type"], rows[0]["calls"]) == ("WAF_FILTERED", 2)
    by_type = {row["response_type"]: row for row in rows}
    assert by_type["INTEGRATION_FAILURE"]["integration_error"] == "Malformed Lambda proxy response"


def platform_line(kind: str, status: str, **record: object) -> str:
    """As Lambda writes it with LogFormat JSON, by the schema of its telemetry:
    https://docs.aws.amazon.com/lambda/latest/dg/telemetry-schema-reference.html"""
    metrics = {"durationMs": 900000.0, "billedDurationMs": 900000, "memorySizeMB": 512, "maxMemoryUsedMB": 512}
    body = {"requestId": "6f7f0961", "status": status, "metrics": metrics, **record}
    return json.dumps({"time": "2026-11-26T12:00:00.000Z", "type": kind, "record": body})


def test_crashes_finds_time_outs_and_lost_memory_and_nothing_that_a_handler_raised() -> None:
    lines = [
        platform_line("platform.report", "timeout"),
        platform_line("platform.report", "error", errorType="Runtime.OutOfMemory"),
        platform_line("platform.report", "error", errorType="Runtime.ExitError"),
        platform_line("platform.initReport", "timeout"),
        platform_line("platform.report", "success"),
        platform_line("platform.report", "failure", errorType="UnauthorizedError"),
        platform_line("platform.start", "success"),
    ]
    rows = parse(QUERIES["crashes"]).run(lines)
    assert [(row["type"], row["record.status"], row.get("record.errorType")) for row in rows] == [
        ("platform.report", "timeout", None),
        ("platform.report", "error", "Runtime.OutOfMemory"),
        ("platform.report", "error", "Runtime.ExitError"),
        ("platform.initReport", "timeout", None),
    ]
    assert rows[1]["record.metrics.maxMemoryUsedMB"] == 512


def test_each_query_is_saved_for_all_logs_under_the_stages_name() -> None:
    saved = [each["Properties"] for each in resources().values() if each["Type"] == "AWS::Logs::QueryDefinition"]
    assert len(saved) == len(QUERIES)
    for query in saved:
        assert re.fullmatch(r"fusewire/\$\{Stage\}/[a-z]+", query["Name"]["Sub"])
        assert query["LogGroupNames"] == [{"Ref": "FunctionLogs"}, {"Ref": "AccessLogs"}]


def test_every_log_group_forgets_after_a_time_that_is_set() -> None:
    groups = [each["Properties"] for each in resources().values() if each["Type"] == "AWS::Logs::LogGroup"]
    assert len(groups) >= 2
    assert all(group["RetentionInDays"] == {"Ref": "LogRetentionDays"} for group in groups)


@pytest.mark.parametrize("manual", OPERATIONS, ids=["en", "ja"])
def test_the_manual_has_every_query(manual: Path) -> None:
    under = dict(zip(OPERATIONS, ("saved-log-queries", "保存済みのログ検索クエリ"), strict=True))
    assert [code(row[0])[0] for row in table(manual, 2, under=under[manual])] == list(QUERIES)
