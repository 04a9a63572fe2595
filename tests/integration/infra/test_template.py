"""infra/template.yaml as CloudFormation gets it, by every linter, and by us where linters were seen to miss things."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
import yaml

from fusewire.config import Settings, load_settings
from fusewire.http import cors
from local.schedule import next_time
from local.template import Schedule, read_template
from scripts.deploy import buffered
from tests.integration.infra.sam import PROJECT, TEMPLATE, done, run, transformed
from tests.unit.docs import source

_API: Final = "Api"
_STREAMED: Final = {"/api/v1/chat/completions", "/api/v1/messages", "/api/v1/responses"}
_FOLDERS: Final = {file.parent.name for file in (PROJECT / "functions").glob("*/app.py")}


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    return transformed(TEMPLATE)


def of_type(template: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    resources = template["Resources"].items()
    return {name: each.get("Properties", {}) for name, each in resources if each["Type"] == f"AWS::{kind}"}


def methods(template: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    paths = template["Resources"][_API]["Properties"]["Body"]["paths"]
    return {(method.upper(), path): told for path, each in paths.items() for method, told in each.items()}


# --- linters -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, template: dict[str, Any]) -> Path:
    made = tmp_path_factory.mktemp("transformed") / "template.json"
    made.write_text(json.dumps(template))
    return made


def test_sam_finds_it_valid() -> None:
    assert "is a valid SAM Template" in done("sam", "validate", "--lint", "--template", str(TEMPLATE))


def test_cfn_lint_has_nothing_to_say_of_what_comes_out(file: Path) -> None:
    assert done("cfn-lint", str(file)) == ""


def test_checkov_fails_what_is_explained_and_nothing_else(file: Path) -> None:
    told = run("checkov", "-f", str(file), "--framework", "cloudformation", "--quiet", "--skip-download", "-o", "json")
    report = json.loads(told.stdout)
    failed = {each["check_id"] for each in report["results"]["failed_checks"]}
    text = (PROJECT / "infra" / "checkov.yaml").read_text()
    explained = set(yaml.safe_load(text)["skip-check"])
    assert failed == explained
    assert report["summary"]["passed"] > 50
    assert all(re.search(rf"- {each} # \w+", text) for each in explained)


# --- what they were seen to miss ---------------------------------------------------------------------------------


def test_the_streaming_routes_really_stream(template: dict[str, Any]) -> None:
    streaming = {
        path
        for (_, path), told in methods(template).items()
        if told["x-amazon-apigateway-integration"].get("responseTransferMode") == "STREAM"
    }
    assert streaming == _STREAMED
    for (method, path), told in methods(template).items():
        integration = told["x-amazon-apigateway-integration"]
        if path in _STREAMED and method == "POST":
            assert integration["uri"]["Fn::Sub"].endswith("/response-streaming-invocations")
            assert integration["timeoutInMillis"] == 900_000
        elif method != "OPTIONS":
            assert integration["uri"]["Fn::Sub"].endswith("/invocations")


def test_the_api_is_regional_and_hears_out_a_longer_silence_than_a_first_content_takes(
    template: dict[str, Any],
) -> None:
    # An edge-optimised API gives up after 30 seconds, a regional one after 300.
    assert template["Resources"][_API]["Properties"]["EndpointConfiguration"] == {"Types": ["REGIONAL"]}
    on_lambda = load_settings({"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"})
    assert on_lambda.longest_silence_seconds < 300


def test_with_streaming_off_none_does(tmp_path: Path) -> None:
    file = tmp_path / "template.yaml"
    file.write_text(buffered(TEMPLATE.read_text()))
    integrations = [each["x-amazon-apigateway-integration"] for each in methods(transformed(file)).values()]
    assert not [each for each in integrations if "responseTransferMode" in each]
    assert not [each for each in integrations if "streaming" in json.dumps(each)]
    assert {each["timeoutInMillis"] for each in integrations if "timeoutInMillis" in each} == {29_000}


def test_every_route_and_schedule_calls_the_alias(template: dict[str, Any]) -> None:
    aliases = of_type(template, "Lambda::Alias")
    for (method, path), told in methods(template).items():
        if method != "OPTIONS":
            [function] = re.findall(r"functions/\$\{(\w+)\}", told["x-amazon-apigateway-integration"]["uri"]["Fn::Sub"])
            assert function in aliases, path
    for schedule in of_type(template, "Scheduler::Schedule").values():
        assert schedule["Target"]["Arn"]["Ref"] in aliases
    for permission in of_type(template, "Lambda::Permission").values():
        assert permission["FunctionName"]["Ref"] in aliases


def test_every_function_is_published_with_a_snapshot(template: dict[str, Any]) -> None:
    functions = of_type(template, "Lambda::Function")
    aliases = of_type(template, "Lambda::Alias")
    assert {each["FunctionName"]["Ref"] for each in aliases.values()} == functions.keys()
    assert {each["Name"] for each in aliases.values()} == {"live"}
    for name, function in functions.items():
        assert function["SnapStart"] == {"ApplyOn": "PublishedVersions"}, name
        assert (function["Runtime"], function["Architectures"]) == ("python3.13", ["arm64"])
        assert function["Timeout"] <= 900
        # What SnapStart excludes.
        assert not function.keys() & {"FileSystemConfigs", "EphemeralStorage", "ImageUri", "PackageType"}
    assert not [each for each in aliases.values() if "ProvisionedConcurrencyConfig" in each]


def test_a_new_hash_publishes_new_versions_and_another_of_migrates_alone(tmp_path: Path) -> None:
    def versions(**hashes: str) -> set[str]:
        text = TEMPLATE.read_text()
        for name, value in hashes.items():
            before = re.search(rf"  {name}:\n    Type: String\n    Default: \"(0{{64}})\"", text)
            assert before
            text = text[: before.start(1)] + value * 64 + text[before.end(1) :]
        file = tmp_path / f"{''.join(hashes)}.yaml"
        file.write_text(text)
        return set(of_type(transformed(file), "Lambda::Version"))

    before, built, migration = versions(), versions(BuildHash="a"), versions(MigrationHash="b")
    functions = len(of_type(transformed(TEMPLATE), "Lambda::Function"))
    assert len(before - built) == functions - 1
    [only] = before - migration
    assert only.startswith("MigrateFunction")


def test_a_wrong_key_wakes_nobody(template: dict[str, Any]) -> None:
    """Lambda counts each 401 as an error of the authorizer's."""
    watched = [
        dimension["Value"]["Ref"]
        for alarm in of_type(template, "CloudWatch::Alarm").values()
        for each in alarm.get("Metrics", ())
        if (metric := each.get("MetricStat", {}).get("Metric", {})).get("MetricName") == "Errors"
        for dimension in metric["Dimensions"]
    ]
    assert set(watched) == of_type(template, "Lambda::Function").keys() - {"AuthorizerFunction"}


def test_the_month_ends_when_the_budget_says(template: dict[str, Any]) -> None:
    [schedule] = of_type(template, "Scheduler::Schedule").values()
    assert schedule["ScheduleExpressionTimezone"] == {"Ref": "BudgetTimezone"}
    told = Schedule(schedule["ScheduleExpression"], "Asia/Tokyo", schedule["Target"]["Input"], "monthly_reset")
    due = next_time(told, datetime(2026, 11, 15, tzinfo=UTC))
    assert due == datetime(2026, 12, 1, tzinfo=ZoneInfo("Asia/Tokyo"))
    queue = {"Fn::GetAtt": ["ResetDeadLetters", "Arn"]}
    assert schedule["Target"]["DeadLetterConfig"]["Arn"] == queue
    assert schedule["Target"]["RetryPolicy"]["MaximumRetryAttempts"] > 0
    [invoked] = of_type(template, "Lambda::EventInvokeConfig").values()
    assert invoked["DestinationConfig"]["OnFailure"]["Destination"] == queue


def test_a_function_a_folder() -> None:
    assert {each.folder.name for each in read_template(TEMPLATE, {}).functions} == _FOLDERS


def test_tracing_is_switched_by_one_parameter_from_the_api_to_each_statement(template: dict[str, Any]) -> None:
    assert template["Conditions"]["Traces"] == {"Fn::Equals": [{"Ref": "Tracing"}, "on"]}
    [stage] = of_type(template, "ApiGateway::Stage").values()
    assert stage["TracingEnabled"] == {"Fn::If": ["Traces", True, False]}
    for name, function in of_type(template, "Lambda::Function").items():
        assert function["TracingConfig"] == {"Mode": {"Fn::If": ["Traces", "Active", "PassThrough"]}}, name
        assert function["Environment"]["Variables"]["FUSEWIRE_TRACING"] == {"Ref": "Tracing"}, name
        allowed = json.dumps(template["Resources"][f"{name}Role"]["Properties"]["ManagedPolicyArns"])
        assert "AWSXrayWriteOnlyAccess" in allowed, name


def test_every_setting_that_is_told_exists(template: dict[str, Any]) -> None:
    runtimes_own = {"AWS_LAMBDA_EXEC_WRAPPER"}
    for name, function in of_type(template, "Lambda::Function").items():
        told = function["Environment"]["Variables"]
        assert told.keys() - runtimes_own <= source.variables().keys(), name
        assert told["AUTH_MODE"] == "keys"
        # Lambda's limit is 4 KB; here without what parameters bring.
        assert len(json.dumps(told)) < 6_000


def test_every_setting_can_be_told() -> None:
    told = transformed(TEMPLATE)["Resources"]["CompleteFunction"]["Properties"]["Environment"]["Variables"]
    fields = {name.upper() for name in Settings.model_fields} - {"ENVIRONMENT"}
    of_others = {"FUSEWIRE_APP_SECRET_ARN", "FUSEWIRE_APP_IAM", "ADMIN_API_KEY"}  # of migrate, and in a secret
    assert fields - told.keys() - of_others == set()


def test_defaults_are_the_settings_own(template: dict[str, Any]) -> None:
    told = template["Resources"]["CompleteFunction"]["Properties"]["Environment"]["Variables"]
    defaults = source.variables()
    for name, value in told.items():
        if isinstance(value, dict) and "Ref" in value and name in defaults:
            # Blank is unset.
            assert str(template["Parameters"][value["Ref"]]["Default"]) in ("", defaults[name]), name


# --- who may do what ---------------------------------------------------------------------------------------------


def test_each_function_may_do_what_it_needs(template: dict[str, Any]) -> None:
    policies: dict[str, set[str]] = {}
    for name in of_type(template, "Lambda::Function"):
        role = template["Resources"][f"{name}Role"]["Properties"]
        policies[name] = {each["Ref"] for each in role["ManagedPolicyArns"] if isinstance(each, dict)}
    vendors = {"CompleteFunction", "EmbedFunction", "AdminProvidersFunction"}
    assert {name for name, used in policies.items() if "UsesProviders" in used} == vendors
    assert {name for name, used in policies.items() if "UsesProviderKeys" in used} == {*vendors, "ModelsFunction"}
    assert policies["ModelsFunction"] == {"UsesProviderKeys"}
    assert {name for name, used in policies.items() if "UsesOwner" in used} == {"MigrateFunction"}
    assert policies["MigrateFunction"] == {"UsesOwner"}


def test_no_policy_of_ours_is_wide(template: dict[str, Any]) -> None:
    for name, policy in of_type(template, "IAM::ManagedPolicy").items():
        for statement in policy["PolicyDocument"]["Statement"]:
            assert "*" not in json.dumps(statement["Action"]), name
            assert statement["Resource"] != "*", name


# --- the front door ----------------------------------------------------------------------------------------------


def test_what_the_gateway_itself_answers_is_openais_error_body_with_a_known_code(template: dict[str, Any]) -> None:
    answers = template["Resources"][_API]["Properties"]["Body"]["x-amazon-apigateway-gateway-responses"]
    known = source.error_codes().keys() | source.other_codes()
    for name, answer in answers.items():
        error = json.loads(answer["responseTemplates"]["application/json"])["error"]
        assert error.keys() == {"message", "type", "code", "param"}, name
        assert error["code"] in known, name
        assert answer["responseParameters"]["gatewayresponse.header.x-request-id"] == "context.requestId"
        if name not in ("DEFAULT_4XX", "DEFAULT_5XX") and error["code"] in source.error_codes():
            expected, _, retry = source.error_codes()[error["code"]]
            assert answer["statusCode"] == expected, name
            told = answer["responseParameters"].get("gatewayresponse.header.x-should-retry", "'true'").strip("'")
            assert re.match(retry, told) or retry == source.UNSET, name
    assert {"UNAUTHORIZED", "ACCESS_DENIED", "THROTTLED", "DEFAULT_4XX", "DEFAULT_5XX"} <= answers.keys()


def test_the_firewall_stands_before_the_api_where_it_is_asked_for(template: dict[str, Any]) -> None:
    assert template["Conditions"]["HasWaf"] == {"Fn::Equals": [{"Ref": "Waf"}, "on"]}
    made = {name: each for name, each in template["Resources"].items() if each["Type"].startswith("AWS::WAFv2::")}
    assert len(made) == 2
    assert {each["Condition"] for each in made.values()} == {"HasWaf"}
    [stage] = (name for name, each in template["Resources"].items() if each["Type"] == "AWS::ApiGateway::Stage")
    [association] = of_type(template, "WAFv2::WebACLAssociation").values()
    assert association["ResourceArn"]["Fn::Sub"].endswith(f"/restapis/${{{_API}}}/stages/${{{stage}}}")
    # No rule that reads bodies as a website's: it would refuse long prompts, and prompts that look like code.
    assert "AWSManagedRulesCommonRuleSet" not in json.dumps(made)


def test_the_preflight_allows_what_the_functions_allow(template: dict[str, Any]) -> None:
    for (method, path), told in methods(template).items():
        if method == "OPTIONS":
            headers = told["x-amazon-apigateway-integration"]["responses"]["default"]["responseParameters"]
            allowed = headers["method.response.header.Access-Control-Allow-Headers"].strip("'").split(",")
            assert sorted(allowed) == sorted(cors.ALLOWED_HEADERS), path
            assert headers["method.response.header.Access-Control-Max-Age"] == f"'{cors.PREFLIGHT_SECONDS}'"
            assert "security" not in told, path


def test_access_logs_are_json_and_hold_nothing_that_a_caller_sends(template: dict[str, Any]) -> None:
    [stage] = of_type(template, "ApiGateway::Stage").values()
    line = json.loads(stage["AccessLogSetting"]["Format"])
    assert line["request_id"] == "$context.requestId"
    assert all(value.startswith("$context.") for name, value in line.items() if name != "event")
    assert not re.search(r"querystring|\$input|requestOverride|apiKey\b", json.dumps(line))
    [limits] = [each for each in stage["MethodSettings"] if each["ResourcePath"] == "/*"]
    assert limits["DataTraceEnabled"] is False
    assert {"ThrottlingRateLimit", "ThrottlingBurstLimit"} <= limits.keys()
