"""infra/template.yaml as CloudFormation gets it, by every linter, and by us where linters were seen to miss things."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest
import yaml

from fusewire.config import Settings, load_settings
from fusewire.http import cors
from fusewire.http import headers as http_headers
from local.cloudformation import load
from local.schedule import next_time
from local.template import Schedule, read_template
from scripts.deploy.settings import every_parameter
from scripts.deploy.steps import buffered, publish
from scripts.deploy.target import Target
from tests.integration.infra.sam import PROJECT, TEMPLATE, done, run, transformed
from tests.unit.docs import source
from tests.unit.scripts.deploy.cloud import TERRAFORM

_API: Final = "Api"
_STREAMED: Final = {
    f"{base}/{name}"
    for base in ("/v1", "/api/v1")
    for name in ("chat/completions", "messages", "messages/count_tokens", "responses", "responses/{id}", "{proxy+}")
}
_ANY: Final = "X-AMAZON-APIGATEWAY-ANY-METHOD"
_SNAPSHOTS: Final = {"CompleteFunction", "EmbedFunction", "AuthorizerFunction"}
"""Where a cold start keeps a caller waiting. Others are called so rarely that Lambda would put the snapshot away."""
_FOLDERS: Final = {file.parent.name for file in (PROJECT / "functions").glob("*/app.py")}


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    return transformed(TEMPLATE)


def of_type(template: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    resources = template["Resources"].items()
    return {name: each.get("Properties", {}) for name, each in resources if each["Type"] == f"AWS::{kind}"}


def methods(template: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    paths = template["Resources"][_API]["Properties"]["Body"]["paths"]
    return {(method.upper(), path): result for path, each in paths.items() for method, result in each.items()}


# --- linters -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, template: dict[str, Any]) -> Path:
    made = tmp_path_factory.mktemp("transformed") / "template.json"
    made.write_text(json.dumps(template))
    return made


def test_sam_finds_it_valid() -> None:
    assert "is a valid SAM Template" in done("sam", "validate", "--lint", "--template", str(TEMPLATE))


def test_cfn_lint_has_nothing_to_say_of_what_comes_out(file: Path) -> None:
    # SAM has resolved TrafficShifting, which decides what there is.
    assert done("cfn-lint", "--ignore-checks", "W2001", "W7001", "--", str(file)) == ""


def test_every_parameter_and_mapping_is_used() -> None:
    text = TEMPLATE.read_text()
    for name in (*load(text)["Parameters"], *load(text)["Mappings"]):
        assert re.search(rf"!Ref {name}\b|\$\{{{name}\}}|FindInMap \[{name},", text), name


def test_nothing_is_left_for_cloudformation_to_look_up(template: dict[str, Any]) -> None:
    """It takes 60 dynamic references at most, and doesn't see that one has changed."""
    assert json.dumps(template).count("{{resolve:") == 0
    assert TEMPLATE.read_text().count("{{resolve:ssm:/") == 0


@pytest.fixture(scope="module")
def parsed_by_sam() -> Callable[[Mapping[str, str]], dict[str, str]]:
    """What SAM's own parser makes of the arguments that a deployment gives it."""

    def parse(parameters: Mapping[str, str]) -> dict[str, str]:
        commands: list[Sequence[str]] = []
        publish(commands.append, Target("prod", "eu-central-1", "s", "b"), parameters)
        arguments = commands[0][commands[0].index("--parameter-overrides") + 1 :]
        code = (
            "import json, sys; from samcli.cli.types import CfnParameterOverridesType as T; "
            "print(json.dumps(T().convert(json.loads(sys.argv[1]), None, None)))"
        )
        result: dict[str, str] = json.loads(done("python", "-c", code, json.dumps(arguments)))
        return result

    return parse


def test_sam_takes_every_parameter_as_it_is_meant(
    parsed_by_sam: Callable[[Mapping[str, str]], dict[str, str]],
) -> None:
    """Empty values, spaces, JSON and quotes: aws-sam-cli#1778, #2018, #1602, #3508, aws-cli#4930."""
    awkward = {
        "AiPriceOverrides": '{"vllm/m": {"input_mtok": 1, "output_mtok": 2.5}, "azure/*": {"free": true}}',
        "AiModelAliases": '{"gpt-4o*": "sota"}',
        "CorsOrigins": "https://a.example, https://b.example",
        "AlarmEmail": "on call@example.com",
        "BedrockSotaModel": "a=b,c",
        "AzureAiEndpoint": "ParameterKey=Waf,ParameterValue=on",
        "OllamaSotaModel": "it's",
    }
    terraform = TERRAFORM
    everything = every_parameter(TEMPLATE.read_text(), awkward, terraform)
    assert {name for name, value in everything.items() if value == ""}, "there are empty ones"
    assert parsed_by_sam(everything) == everything


def test_each_build_changes_a_functions_configuration(tmp_path: Path) -> None:
    """Else Lambda publishes nothing and the stack fails: serverless-application-model#1497, #1375, aws-sam-cli#3745.

    SAM sees to it: it writes AutoPublishCodeSha256 into the description.
    """
    file = tmp_path / "template.yaml"
    file.write_text(TEMPLATE.read_text().replace(f'Default: "{"0" * 64}"', f'Default: "{"a" * 64}"', 1))
    for name, function in of_type(transformed(file), "Lambda::Function").items():
        assert function["Description"] == ("0" if name == "MigrateFunction" else "a") * 64, name


def shifting(tmp_path: Path, how: str) -> dict[str, Any]:
    text = re.sub(r"(  TrafficShifting:\n    Type: String\n    Default: ).*", rf'\1"{how}"', TEMPLATE.read_text())
    file = tmp_path / f"{how}.yaml"
    file.write_text(text)
    return transformed(file)


_SHIFTED: Final = {"CompleteFunction", "EmbedFunction", "ModelsFunction", "AuthorizerFunction"}


def test_codedeploy_moves_callers_by_a_parameter_and_back_on_the_alarms(tmp_path: Path) -> None:
    template = shifting(tmp_path, "Linear10PercentEvery1Minute")
    groups = of_type(template, "CodeDeploy::DeploymentGroup")
    assert len(groups) == len(_SHIFTED)
    for group in groups.values():
        assert group["DeploymentConfigName"] == {
            "Fn::Sub": ["CodeDeployDefault.Lambda${ConfigName}", {"ConfigName": "Linear10PercentEvery1Minute"}]
        }
        assert group["AlarmConfiguration"] == {
            "Enabled": True,
            "Alarms": [{"Name": {"Ref": f"{name}Alarm"}} for name in ("Bugs", "InvocationErrors", "ApiErrors")],
        }
        assert "DEPLOYMENT_STOP_ON_ALARM" in group["AutoRollbackConfiguration"]["Events"]
    aliases = {name for name, each in template["Resources"].items() if "UpdatePolicy" in each}
    assert aliases == {f"{name}Aliaslive" for name in _SHIFTED}, "migrate and the operators' functions move at once"


def test_every_way_of_shifting_is_known_to_the_mapping_and_off_has_no_codedeploy(tmp_path: Path) -> None:
    parameter = load(TEMPLATE.read_text())["Parameters"]["TrafficShifting"]
    assert parameter["AllowedValues"] == list(load(TEMPLATE.read_text())["Mappings"]["Shifting"])
    template = shifting(tmp_path, "off")
    assert not [each for each in template["Resources"].values() if each["Type"].startswith("AWS::CodeDeploy")]
    assert not [each for each in template["Resources"].values() if "UpdatePolicy" in each]


def test_checkov_fails_what_is_explained_and_nothing_else(file: Path) -> None:
    output = run(
        "checkov", "-f", str(file), "--framework", "cloudformation", "--quiet", "--skip-download", "-o", "json"
    )
    report = json.loads(output.stdout)
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
        for (_, path), result in methods(template).items()
        if result["x-amazon-apigateway-integration"].get("responseTransferMode") == "STREAM"
    }
    assert streaming == _STREAMED
    for (method, path), result in methods(template).items():
        integration = result["x-amazon-apigateway-integration"]
        if path in _STREAMED and method in ("POST", "GET", "DELETE", _ANY):
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
    assert on_lambda.max_silence_seconds < 300


def test_with_streaming_off_none_does(tmp_path: Path) -> None:
    file = tmp_path / "template.yaml"
    file.write_text(buffered(TEMPLATE.read_text()))
    integrations = [each["x-amazon-apigateway-integration"] for each in methods(transformed(file)).values()]
    assert not [each for each in integrations if "responseTransferMode" in each]
    assert not [each for each in integrations if "streaming" in json.dumps(each)]
    assert {each["timeoutInMillis"] for each in integrations if "timeoutInMillis" in each} == {29_000}


def test_every_route_and_schedule_calls_the_alias(template: dict[str, Any]) -> None:
    aliases = of_type(template, "Lambda::Alias")
    for (method, path), result in methods(template).items():
        if method != "OPTIONS":
            [function] = re.findall(
                r"functions/\$\{(\w+)\}", result["x-amazon-apigateway-integration"]["uri"]["Fn::Sub"]
            )
            assert function in aliases, path
    for schedule in of_type(template, "Scheduler::Schedule").values():
        assert schedule["Target"]["Arn"]["Ref"] in aliases
    for permission in of_type(template, "Lambda::Permission").values():
        assert permission["FunctionName"]["Ref"] in aliases


def test_every_function_is_published_and_what_callers_wait_for_has_a_snapshot(template: dict[str, Any]) -> None:
    functions = of_type(template, "Lambda::Function")
    aliases = of_type(template, "Lambda::Alias")
    assert {each["FunctionName"]["Ref"] for each in aliases.values()} == functions.keys()
    assert {each["Name"] for each in aliases.values()} == {"live"}
    for name, function in functions.items():
        assert ("SnapStart" in function) is (name in _SNAPSHOTS), name
        switched = {"ApplyOn": {"Fn::If": ["TakesSnapshots", "PublishedVersions", "None"]}}
        assert function.get("SnapStart", switched) == switched
        assert (function["Runtime"], function["Architectures"]) == ("python3.13", ["arm64"])
        assert function["Timeout"] <= 900
        # What SnapStart excludes.
        assert not function.keys() & {"FileSystemConfigs", "EphemeralStorage", "ImageUri", "PackageType"}
    assert not [each for each in aliases.values() if "ProvisionedConcurrencyConfig" in each]
    versions = [each for each in template["Resources"].values() if each["Type"] == "AWS::Lambda::Version"]
    assert {each["DeletionPolicy"] for each in versions} == {"Retain"}, "`make rollback` needs the one before"


def test_a_flood_of_calls_leaves_operators_their_own_concurrency(template: dict[str, Any]) -> None:
    reserved = {
        name: function["ReservedConcurrentExecutions"]["Fn::If"][:2]
        for name, function in of_type(template, "Lambda::Function").items()
        if "ReservedConcurrentExecutions" in function
    }
    assert reserved == {
        **{
            name: ["ReservesConcurrency", {"Ref": "ReservedConcurrency"}]
            for name in ("CompleteFunction", "EmbedFunction")
        },
        **{
            f"Admin{name}Function": ["ReservesForAdmins", {"Ref": "AdminConcurrency"}]
            for name in ("Budget", "Providers", "Usage", "Keys")
        },
        "AuthorizerFunction": ["ReservesForAuthorizer", {"Ref": "AuthorizerConcurrency"}],
    }
    # What the API lets through at once can be authorized at once.
    defaults = {name: each.get("Default") for name, each in template["Parameters"].items()}
    assert defaults["AuthorizerConcurrency"] >= defaults["ThrottlingBurst"]


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
    result = Schedule(schedule["ScheduleExpression"], "Asia/Tokyo", schedule["Target"]["Input"], "monthly_reset")
    due = next_time(result, datetime(2026, 11, 15, tzinfo=UTC))
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
    others_own = {"AWS_LAMBDA_EXEC_WRAPPER", "AWS_USE_DUALSTACK_ENDPOINT"}  # the runtime's and the SDK's
    for name, function in of_type(template, "Lambda::Function").items():
        result = function["Environment"]["Variables"]
        assert result.keys() - others_own <= source.variables().keys(), name
        assert result["AUTH_MODE"] == "keys"
        # Lambda's limit is 4 KB; here without what parameters bring.
        assert len(json.dumps(result)) < 6_000


def test_every_setting_can_be_told() -> None:
    result = transformed(TEMPLATE)["Resources"]["CompleteFunction"]["Properties"]["Environment"]["Variables"]
    fields = {name.upper() for name in Settings.model_fields} - {"ENVIRONMENT"}
    of_others = {"FUSEWIRE_APP_SECRET_ARN", "FUSEWIRE_APP_IAM"}  # migrate's
    in_secrets = {"ADMIN_API_KEY", "AI_RESPONSES_KEY"}
    assert fields - result.keys() - of_others - in_secrets == set()


def test_defaults_are_the_settings_own(template: dict[str, Any]) -> None:
    result = template["Resources"]["CompleteFunction"]["Properties"]["Environment"]["Variables"]
    defaults = source.variables()
    for name, value in result.items():
        parameter = template["Parameters"].get(value["Ref"], {}) if isinstance(value, dict) and "Ref" in value else {}
        if "Default" in parameter and name in defaults:
            # Blank is unset; Lambda's 15 minutes have to do for settling as well.
            own = "890" if name == "AI_REQUEST_TIMEOUT_SECONDS" else defaults[name]
            assert str(parameter["Default"]) in ("", own), name


# --- who may do what ---------------------------------------------------------------------------------------------


def test_each_function_may_do_what_it_needs(template: dict[str, Any]) -> None:
    policies: dict[str, set[str]] = {}
    for name in of_type(template, "Lambda::Function"):
        role = template["Resources"][f"{name}Role"]["Properties"]
        policies[name] = {each["Ref"] for each in role["ManagedPolicyArns"] if isinstance(each, dict)}
    vendors = {"CompleteFunction", "EmbedFunction", "AdminProvidersFunction"}
    assert {name for name, used in policies.items() if "UsesProviders" in used} == vendors
    assert {name for name, used in policies.items() if "UsesProviderKeys" in used} == {*vendors, "ModelsFunction"}
    assert policies["ModelsFunction"] == {"UsesLedger", "UsesProviderKeys"}  # prices are in Postgres
    assert {name for name, used in policies.items() if "UsesOwner" in used} == {"MigrateFunction"}
    assert policies["MigrateFunction"] == {"UsesOwner"}


def test_no_policy_of_ours_is_wide(template: dict[str, Any]) -> None:
    for name, policy in of_type(template, "IAM::ManagedPolicy").items():
        for statement in policy["PolicyDocument"]["Statement"]:
            for each in statement["Fn::If"][1:2] if "Fn::If" in statement else [statement]:
                assert "*" not in json.dumps(each["Action"]), name
                # AWS knows no resource of such a token: what it is for is in the condition.
                audience = each["Action"] == "sts:GetWebIdentityToken" and "sts:IdentityTokenAudience" in json.dumps(
                    each
                )
                assert audience or each["Resource"] != "*", name


def test_a_service_takes_a_role_for_this_account_alone(template: dict[str, Any]) -> None:
    ours = {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    services = set()
    for name, role in of_type(template, "IAM::Role").items():
        [statement] = role["AssumeRolePolicyDocument"]["Statement"]
        [service] = [statement["Principal"]["Service"]] if isinstance(statement["Principal"]["Service"], str) else (
            statement["Principal"]["Service"]
        )  # fmt: skip
        services.add(service)
        # Nothing public says that these two pass it on.
        if service not in ("apigateway.amazonaws.com", "codedeploy.amazonaws.com"):
            assert statement["Condition"] == ours, name
    assert {"lambda.amazonaws.com", "scheduler.amazonaws.com"} <= services


# --- the API ----------------------------------------------------------------------------------------------


_POLICY: Final = ("SecurityPolicy_TLS13_1_2_2021_06", "STRICT")


def test_the_api_and_its_own_name_take_tls_1_2_at_least_and_log_which(template: dict[str, Any]) -> None:
    """An enhanced policy needs the access mode: aws-sam-cli#9007, serverless-application-model#3898."""
    [domain] = of_type(template, "ApiGateway::DomainName").values()
    api = template["Resources"][_API]["Properties"]
    for each in (domain, api):
        assert (each["SecurityPolicy"], each["EndpointAccessMode"]) == _POLICY
    [stage] = of_type(template, "ApiGateway::Stage").values()
    assert json.loads(stage["AccessLogSetting"]["Format"])["tls_version"] == "$context.tlsVersion"
    assert [each["MetricsEnabled"] for each in stage["MethodSettings"]] == [False]


def test_the_address_may_be_a_name_that_outlives_the_stack(template: dict[str, Any]) -> None:
    resources = template["Resources"]
    assert {name: resources[name]["Condition"] for name in ("Domain", "DomainMapping", "DomainRecord")} == {
        "Domain": "HasDomain", "DomainMapping": "HasDomain", "DomainRecord": "HasDomainRecord",
    }  # fmt: skip
    mapping = resources["DomainMapping"]["Properties"]
    [stage] = (name for name, each in resources.items() if each["Type"] == "AWS::ApiGateway::Stage")
    assert (mapping["RestApiId"], mapping["Stage"]) == ({"Ref": _API}, {"Ref": stage})
    assert "BasePath" not in mapping, "paths are the same under every name"
    condition, with_name, _ = template["Outputs"]["BaseUrl"]["Value"]["Fn::If"]
    assert (condition, with_name) == ("HasDomain", {"Fn::Sub": "https://${DomainName}/api/v1"})


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
            response = answer["responseParameters"].get("gatewayresponse.header.x-should-retry", "'true'").strip("'")
            assert re.match(retry, response) or retry == source.UNSET, name
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
    for (method, path), result in methods(template).items():
        if method == "OPTIONS":
            headers = result["x-amazon-apigateway-integration"]["responses"]["default"]["responseParameters"]
            allowed = headers["method.response.header.Access-Control-Allow-Headers"].strip("'").split(",")
            assert sorted(allowed) == sorted(http_headers.ALLOWED), path
            assert headers["method.response.header.Access-Control-Max-Age"] == f"'{cors.PREFLIGHT_SECONDS}'"
            assert "security" not in result, path


def test_access_logs_are_json_and_hold_nothing_that_a_caller_sends(template: dict[str, Any]) -> None:
    [stage] = of_type(template, "ApiGateway::Stage").values()
    line = json.loads(stage["AccessLogSetting"]["Format"])
    assert line["request_id"] == "$context.requestId"
    assert all(value.startswith("$context.") for name, value in line.items() if name != "event")
    assert not re.search(r"querystring|\$input|requestOverride|apiKey\b", json.dumps(line))
    [limits] = [each for each in stage["MethodSettings"] if each["ResourcePath"] == "/*"]
    assert limits["DataTraceEnabled"] is False
    assert {"ThrottlingRateLimit", "ThrottlingBurstLimit"} <= limits.keys()
