"""A deployment's steps: Terraform, then SAM, then migrate, and back.

A deployment publishes in two steps. First only migrate is new, and runs: the old versions serve on the new schema. Then
all functions are. Where the way to the database changes, Terraform adds the new one before and removes the old one
after: `connections`. The console is last: `console`.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from scripts.deploy.connections import ensure_one_database, wait_for_proxy
from scripts.deploy.console import deploy_console, is_wanted, origin_of, with_console
from scripts.deploy.remains import ensure_unprotected, key_of, remains
from scripts.deploy.settings import every_parameter, parameters_of
from scripts.deploy.stack import Function, Stack, versions_to_delete
from scripts.deploy.target import PROJECT, Ask, DeployError, Run, Target, say

_TEMPLATE: Final = PROJECT / "infra" / "template.yaml"
_BUILT: Final = PROJECT / ".aws-sam" / "build"
_TERRAFORM: Final = PROJECT / "infra" / "terraform"
_MIGRATE_SECONDS: Final = 910
_NOT_READY: Final = ("ResourceNotReadyException", "SnapStartNotReadyException", "ResourceConflictException")
"""What Lambda says of a function that is still being set up."""
_READY_TRIES: Final = 20
_READY_PAUSE_SECONDS: Final = 6
_LARGE_QUOTA: Final = 1000
_RESERVATIONS: Final = ("AdminConcurrency", "AuthorizerConcurrency")


def hash_of(folder: Path, *values: object) -> str:
    """SHA-256 of every file in `folder` and of `values`, which JSON can hold."""
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(folder)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def buffered(template: str) -> str:
    """The template with streams in one piece: API Gateway waits for those 29 seconds at most."""
    lines = [line for line in template.splitlines() if not line.strip().startswith("ResponseTransferMode:")]
    return "\n".join(lines).replace("TimeoutInMillis: 900000", "TimeoutInMillis: 29000") + "\n"


def build(run: Run, target: Target) -> None:
    """The layer and the functions, into .aws-sam/build."""
    template = _TEMPLATE
    if target.streaming == "off":
        template = _TEMPLATE.with_name(".buffered.yaml")  # beside the other: its paths are relative
        template.write_text(buffered(_TEMPLATE.read_text(encoding="utf-8")), encoding="utf-8")
    run(
        ["sam", "build", "--template", str(template), "--build-dir", str(_BUILT), "--build-in-source",
         "--region", target.region]
    )  # fmt: skip


def plan(run: Run, target: Target, session: Any) -> None:  # noqa: ANN401 - boto3 has no types
    """What Terraform would change, on standard output; nothing is changed, and no lock is taken."""
    api = _api(Stack(session, target))
    _init(run, target)
    run(_terraform("plan", "-input=false", "-lock=false", "-no-color", *target.terraform_variables(), *_of_api(api)))


def deploy(run: Run, target: Target, session: Any, ask: Ask) -> str:  # noqa: ANN401 - boto3 has no types
    """Everything, in order.

    :return: the URL for an application's base_url
    """
    template = _TEMPLATE.read_text(encoding="utf-8")
    file = target.settings_file()
    chosen = parameters_of(template, file.read_text(encoding="utf-8") if file.exists() else "")
    chosen = _reservations(session, chosen) | chosen | {"Stage": target.stage, "Streaming": target.streaming}
    stack = Stack(session, target)
    stack.ensure_updatable(ask)
    connections = stack.connections() if stack.status() else set()
    api = _api(stack)
    build(run, target)
    _add_authority(target, chosen)
    _init(run, target)
    _apply(run, target, api, connections, _terraform_outputs(session, target).get("database_kind"))
    outputs = _terraform_outputs(session, target)
    parameters = every_parameter(template, chosen, outputs)
    parameters["CorsOrigins"] = with_console(parameters["CorsOrigins"], outputs)
    ensure_one_database(outputs["database_kind"], parameters["DatabaseUrl"])
    wanted = outputs["database_connections"].split(",")[0]
    if connections and wanted not in connections and wanted.startswith("proxy-"):
        wait_for_proxy(session, outputs["database_proxy_name"])
    # A permission is no part of a version: one that is taken away at a deployment's end doesn't publish the next.
    new = hash_of(_BUILT, {name: value for name, value in parameters.items() if name != "DatabaseConnectArn"})
    old = stack.outputs().get("Build", new)
    before = {each.name: each for each in stack.functions()} if stack.status() else {}
    if any(each.live != each.published for each in before.values()):
        # CodeDeploy only moves an alias from the version that CloudFormation last led it to.
        say("The versions were rolled back: this deployment moves all callers at once.")
        parameters |= {"TrafficShifting": "off"}
    publish(run, target, parameters | {"MigrationHash": new, "BuildHash": old})
    _migrate(session, stack.outputs()["Migrate"])
    if old != new:
        publish(run, target, parameters | {"MigrationHash": new, "BuildHash": new})
    _settle(stack, before)
    base_url = stack.outputs()["BaseUrl"]
    moved, found = connections - stack.connections(), is_wanted(outputs) and origin_of(base_url) != api
    if moved:
        say("Every function has moved: Terraform removes the way to the database that none takes any more.")
    if found:
        say("The API has its address: Terraform lets the console's pages call it.")
    if moved or found:
        _apply(run, target, origin_of(base_url))
    if is_wanted(outputs):
        deploy_console(run, session, outputs, base_url)
        say(f"console: {outputs['console_origin']}")
    return base_url


def destroy(run: Run, target: Target, session: Any, ask: Ask) -> None:  # noqa: ANN401
    """The functions, then what they stand on; then what is left is listed.

    :raises DeployError: before anything is removed, while the database's deletion protection is on
    """
    ensure_unprotected(session, target)
    stack = Stack(session, target)
    logs = stack.resources("AWS::Logs::LogGroup") if stack.status() else []
    key = key_of(session, target)
    if not ask(f"Remove {target.stack} and what Terraform made for {target.stage} in {target.region}?"):
        raise DeployError("Nothing was removed.")
    if stack.status():
        run(["sam", "delete", "--stack-name", target.stack, "--region", target.region, "--no-prompts"])
    _init(run, target)
    run(_terraform("destroy", *_unasked(target), *target.terraform_variables()))
    say("These are left, and some of them are billed:")
    for line in remains(session, target, logs, key):
        say(f"  {line}")


def _reservations(session: Any, chosen: Mapping[str, str]) -> dict[str, str]:  # noqa: ANN401
    """No reserved concurrency where the account's quota has no room for it and the settings don't ask for it."""
    unset = [name for name in _RESERVATIONS if name not in chosen]
    if not unset:
        return {}
    quota = session.client("lambda").get_account_settings()["AccountLimit"]["ConcurrentExecutions"]
    if quota >= _LARGE_QUOTA:
        return {}
    say(f"Lambda's quota is {quota} calls at once, too few to keep some for operators: {'=0, '.join(unset)}=0.")
    return dict.fromkeys(unset, "0")


def _add_authority(target: Target, chosen: Mapping[str, str]) -> None:
    """Pack infra/<stage>.pem into the layer where the settings trust it.

    :raises DeployError: when there is none
    """
    if chosen.get("DatabaseCa") == "own":
        file = target.authority_file()
        if not file.exists():
            raise DeployError(f"DatabaseCa=own trusts what is in {file}, and there is no such file.")
        shutil.copyfile(file, _BUILT / "CoreLayer" / "certs" / "own.pem")


def _api(stack: Stack) -> str | None:
    """The API's origin, once there is one."""
    return origin_of(stack.outputs().get("BaseUrl"))


def _of_api(api: str | None) -> list[str]:
    return [] if api is None else [f"-var=console_api={api}"]


def _apply(run: Run, target: Target, api: str | None, kept: Iterable[str] = (), database: str | None = None) -> None:
    """:param api: the API's origin
    :param kept: ways to the database that stay for the functions which take them now

    :param database: the kind that there is: Terraform refuses another, for it would delete the ledger
    """
    more = [f"-var=kept_connections={json.dumps(sorted(kept))}"] if kept else []
    more += [f"-var=database_now={database}"] if database else []
    run(_terraform("apply", *_unasked(target), *target.terraform_variables(), *_of_api(api), *more))


def _init(run: Run, target: Target) -> None:
    backend = {"bucket": target.state, "key": f"{target.stage}.tfstate", "region": target.region}
    options = [f"-backend-config={name}={value}" for name, value in backend.items()]
    run(_terraform("init", "-input=false", "-reconfigure", *options))


def _terraform(*arguments: str) -> list[str]:
    return ["terraform", f"-chdir={_TERRAFORM}", *arguments]


def _unasked(target: Target) -> list[str]:
    return ["-input=false", "-auto-approve"] if target.yes else []


def publish(run: Run, target: Target, parameters: Mapping[str, str]) -> None:
    """Have SAM upload the build and update the stack."""
    # SAM takes an empty value only in quotes (aws-sam-cli#1778), and JSON only with its own quotes escaped (#1602).
    overrides = [f"ParameterKey={name},ParameterValue={json.dumps(value)}" for name, value in parameters.items()]
    run(
        ["sam", "deploy", "--template-file", str(_BUILT / "template.yaml"), "--stack-name", target.stack,
         "--region", target.region, "--capabilities", "CAPABILITY_IAM", "--resolve-s3", "--no-confirm-changeset",
         "--no-fail-on-empty-changeset", "--parameter-overrides", *overrides]
    )  # fmt: skip


def _terraform_outputs(session: Any, target: Target) -> dict[str, str]:  # noqa: ANN401
    """The SSM parameters that Terraform created for the template, by the last part of their names."""
    path = f"/fusewire/{target.stage}/"
    pages = session.client("ssm").get_paginator("get_parameters_by_path").paginate(Path=path)
    return {each["Name"].removeprefix(path): each["Value"] for page in pages for each in page["Parameters"]}


def _settle(stack: Stack, before: Mapping[str, Function]) -> None:
    """Lead every alias to what was published, wait until it is ready, and delete the versions before the last one."""
    stack.wait_until_active()
    for function in stack.functions():
        if function.live != function.published:  # rolled back, and deployed again as it was
            stack.move(function.name, function.published)
        known = before.get(function.name)
        live_before = known.live if known else None
        for version in versions_to_delete(function, live_before, stack.versions(function.name)):
            stack.delete_version(function.name, version)


def _migrate(session: Any, function: str) -> None:  # noqa: ANN401
    """:raises DeployError: when it fails; the functions' old versions serve on"""
    result, failed = _invoke(session, function)
    if failed:
        raise DeployError(f"migrate failed ({result.get('errorType')}): {result.get('errorMessage')}")
    say(f"migrate: {', '.join(result['applied']) or 'nothing to do'}")


def _invoke(session: Any, function: str) -> tuple[dict[str, Any], bool]:  # noqa: ANN401
    """:return: the function's answer, and whether it is an error's"""
    from botocore.config import Config  # type: ignore[import-untyped]

    # As long as the function may take, and once: another try would only wait for the first one's lock.
    patient = Config(read_timeout=_MIGRATE_SECONDS, retries={"total_max_attempts": 1})
    client = session.client("lambda", config=patient)
    for left in reversed(range(_READY_TRIES)):
        try:
            response = client.invoke(FunctionName=function, Payload=b"{}")
            break
        except client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] not in _NOT_READY or not left:
                raise
            time.sleep(_READY_PAUSE_SECONDS)
    return json.loads(response["Payload"].read()), "FunctionError" in response
