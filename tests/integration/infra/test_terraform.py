"""`infra/terraform` is formatted, valid, passes its own tests and can be planned without an account.

These need Terraform and the AWS provider; the run's last lines say whether they were had. What the files say of each
other is checked without either.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from local.cloudformation import load
from local.console_files import policy
from local.pages import safe_headers
from scripts.deploy.settings import of_terraform, parameter_name
from tests.integration.infra.terraforming import PROJECT, Terraform
from tests.support.documents import code, table

_API: Final = "https://abc123.execute-api.eu-central-1.amazonaws.com"
_MODULES: Final = ("aws", "azure", "gcp")
_SECRETS: Final = re.compile(r"password|secret_string|secret_binary|value_wo|private_key")
# Attributes whose names say password and which hold none.
_NO_SECRETS: Final = {"manage_master_user_password", "client_password_auth_type", "has_value_wo"}


@pytest.fixture(scope="module")
def planned(terraform: Terraform | None) -> dict[str, Any] | None:
    """The plan of an installation with everything on."""
    if terraform is None:
        return None
    return terraform.plan(
        {
            "stage": "prod",
            "region": "eu-central-1",
            "availability_zones": '["eu-central-1a", "eu-central-1b"]',
            "nat_gateways": "2",
            "interface_endpoints": '["secretsmanager", "bedrock-runtime"]',
            "app_password_rotation_days": "30",
            "backup_vault_days": "365",
            "backup_lock": "compliance",
            "second_region": "eu-west-1",
            "github_repository": "our-organisation/fusewire",
            "console_api": _API,
        }
    )


def test_the_files_are_formatted(terraform: Terraform | None) -> None:
    # The other clouds' modules too: what isn't HCL can't be formatted.
    if terraform:
        output = terraform.run("fmt", "-check", "-diff", "-recursive", "-no-color")
        assert output.returncode == 0, output.stdout + output.stderr


def test_the_files_are_valid_with_the_backend_unset(terraform: Terraform | None) -> None:
    if terraform:
        # Its own tests are loaded below: here Terraform would take a module that wants two providers for a root.
        output = terraform.run("validate", "-no-tests", "-no-color")
        assert output.returncode == 0, output.stdout + output.stderr
        assert "Warning" not in output.stdout


def test_terraforms_own_tests_pass(terraform: Terraform | None) -> None:
    if terraform:
        output = terraform.run("test", "-no-color")
        assert output.returncode == 0, output.stdout + output.stderr
        written = sum(len(re.findall("^run ", _text(path), re.MULTILINE)) for path in _files("tests/*.tftest.hcl"))
        assert f"Success! {written} passed, 0 failed." in output.stdout


def test_a_plan_without_an_account_makes_everything_and_destroys_nothing(planned: dict[str, Any] | None) -> None:
    if planned is not None:
        assert {tuple(change["change"]["actions"]) for change in planned["resource_changes"]} <= {
            ("create",),
            ("read",),
        }
        assert not planned.get("errored")


def test_the_plans_of_both_databases_make_every_resource_and_keep_the_password_out(
    planned: dict[str, Any] | None, terraform: Terraform | None
) -> None:
    if planned is not None and terraform is not None:
        aurora = terraform.plan(
            {
                "stage": "prod",
                "region": "eu-central-1",
                "availability_zones": '["eu-central-1a", "eu-central-1b"]',
                "database": "aurora",
                "second_region": "eu-west-1",
                "aurora_global": "true",
                "second_availability_zones": '["eu-west-1a", "eu-west-1b"]',
                "nat_gateways": "0",
                "nat_instance": "t4g.nano",
                "ipv6_egress": "true",
            }
        )
        made = {change["type"] for plan in (planned, aurora) for change in plan["resource_changes"]}
        assert made >= set(_declared_types(PROJECT / "infra/terraform/modules/aws"))
        clusters = [each for each in aurora["resource_changes"] if each["type"] == "aws_rds_cluster"]
        [first] = [each["change"]["after"] for each in clusters if each["address"].endswith("cluster.this[0]")]
        assert first.get("master_password_wo") is None and first.get("master_password") is None


def test_what_isnt_set_at_the_root_is_the_modules_default(terraform: Terraform | None) -> None:
    """Here, since Terraform's own tests can't load a root that reads a secret without keeping it."""
    if terraform is not None:
        zones = '["eu-central-1a", "eu-central-1b"]'
        plan = terraform.plan({"stage": "prod", "region": "eu-central-1", "availability_zones": zones})
        kinds = [each["type"] for each in plan["resource_changes"] if each["change"]["actions"] == ["create"]]
        assert kinds.count("aws_nat_gateway") == kinds.count("aws_db_proxy") == kinds.count("aws_db_instance") == 1
        assert not {"aws_rds_cluster", "aws_backup_plan", "aws_iam_openid_connect_provider"} & set(kinds)


def test_no_secret_reaches_the_plan_or_the_state(planned: dict[str, Any] | None) -> None:
    if planned is not None:
        assert "aws_secretsmanager_secret_version" not in {each["type"] for each in planned["resource_changes"]}
        for change in planned["resource_changes"]:
            for side in ("after", "after_unknown"):
                for name, value in _leaves(change["change"][side]):
                    if _SECRETS.search(name) and name not in _NO_SECRETS:
                        assert value in (None, False), f"{change['address']}: {name}"


def test_nothing_is_let_in_from_outside(planned: dict[str, Any] | None) -> None:
    if planned is not None:
        resources = [change for change in planned["resource_changes"] if change["mode"] == "managed"]
        rules = [each for each in resources if each["type"] == "aws_vpc_security_group_ingress_rule"]
        assert rules
        for rule in rules:
            after = rule["change"]["after"]
            assert not after.get("cidr_ipv4") and not after.get("cidr_ipv6"), rule["address"]
            assert after["from_port"] == after["to_port"], rule["address"]
        subnets = [each["change"]["after"] for each in resources if each["type"] == "aws_subnet"]
        assert len(subnets) == 6 and not any(subnet["map_public_ip_on_launch"] for subnet in subnets)


def test_a_description_of_a_security_group_is_one_that_aws_takes(planned: dict[str, Any] | None) -> None:
    # The provider lets an apostrophe pass, and EC2 doesn't.
    if planned is not None:
        groups = [change for change in planned["resource_changes"] if "security_group" in change["type"]]
        described = {each["address"]: text for each in groups if (text := each["change"]["after"].get("description"))}
        assert len(described) > 12
        for address, text in described.items():
            assert re.fullmatch(r"[\w ._:/()#,@\[\]+=&;{}!$*-]{1,255}", text), address


def test_cloudfront_sends_what_the_laptops_gateway_does(planned: dict[str, Any] | None) -> None:
    if planned is not None:
        [made] = [
            each["change"]["after"]
            for each in planned["resource_changes"]
            if each["type"] == "aws_cloudfront_response_headers_policy"
        ]
        [headers] = made["security_headers_config"]
        assert all(part[0].get("override", True) for part in headers.values() if part)
        sent = {
            "content-security-policy": headers["content_security_policy"][0]["content_security_policy"],
            "x-content-type-options": "nosniff" if headers["content_type_options"] else "",
            "referrer-policy": headers["referrer_policy"][0]["referrer_policy"],
        }
        local = {name.decode(): value.decode() for name, value in safe_headers(policy(_API))}
        del local["cache-control"]  # each file's own, as it is uploaded
        assert sent == local
        assert policy() != policy(_API)
        assert headers["strict_transport_security"][0]["access_control_max_age_sec"] >= 31_536_000


def test_every_log_group_forgets(planned: dict[str, Any] | None) -> None:
    if planned is not None:
        groups = [each for each in planned["resource_changes"] if each["type"] == "aws_cloudwatch_log_group"]
        assert len(groups) == 3
        assert all(0 < group["change"]["after"]["retention_in_days"] < 400 for group in groups)


@pytest.mark.parametrize("module", [*_MODULES, ""])
def test_a_provider_has_an_upper_bound(module: str, folder: Path) -> None:
    text = _text((folder / "modules" / module if module else folder) / "versions.tf")
    bounds = re.findall(r'source += "hashicorp/\w+"\n +version = "(.+)"', text)
    assert bounds and all(re.fullmatch(r"~> \d+\.\d+", bound) for bound in bounds), bounds


def test_the_lock_file_is_for_every_platform(folder: Path) -> None:
    """A single platform's checksum stops `init` on all others: terraform#27135, #29958, NixOS/infra#216."""
    text = _text(folder / ".terraform.lock.hcl")
    [bound] = re.findall(r'version = "(~> .+)"', _text(folder / "versions.tf"))
    assert f'constraints = "{bound}"' in text
    assert len(set(re.findall(r'"zh:[0-9a-f]{64}"', text))) >= 14, "a package for each platform"
    assert re.search(r'"h1:[\w+/]{43}="', text)


def test_init_agrees_with_the_lock_file(terraform: Terraform | None, folder: Path) -> None:
    # The provider that is here is the one that is locked, by its checksum: `init` has added none.
    if terraform and "aws 5.100.0" in terraform.versions:
        assert _text(terraform.folder / ".terraform.lock.hcl") == _text(folder / ".terraform.lock.hcl")


def test_the_documented_parameters_are_those_that_are_written(folder: Path) -> None:
    rows = table(folder / "README.md", 2, under="what-terraform-tells-the-template")
    documented = {name for cell, _ in rows for name in code(cell)}
    assert documented == _parameters(folder)


def test_the_template_reads_no_parameter_that_isnt_written(folder: Path) -> None:
    written = {parameter_name(name) for name in _parameters(folder)}
    read = set(of_terraform(load(_text(PROJECT / "infra/template.yaml"))))
    assert {"DatabaseHost", "PrivateSubnetId1"} <= read <= written


def test_the_root_hands_on_every_variable_of_the_module(folder: Path) -> None:
    # The root reads it from Secrets Manager, and keeps it no more than the module does.
    declared = [name for name in _variables(folder / "modules/aws") if name != "aurora_owner_password"]
    assert _variables(folder) == declared
    handed_on = re.findall(r"^  (\w+) += var\.(\w+)$", _text(folder / "main.tf"), re.MULTILINE)
    assert handed_on == [(name, name) for name in declared]


@pytest.mark.parametrize("module", _MODULES)
def test_a_module_uses_what_it_declares_and_declares_what_it_uses(module: str, folder: Path) -> None:
    text = "\n".join(_text(path) for path in sorted((folder / "modules" / module).glob("*.tf")))
    bare = re.sub(r"#.*|^ *(?:description|error_message) .*$", "", text, flags=re.MULTILINE)
    outside = re.sub(r'^variable "\w+" \{.*?^\}', "", bare, flags=re.MULTILINE | re.DOTALL)
    declared = set(_variables(folder / "modules" / module))
    assert set(re.findall(r"\bvar\.(\w+)", bare)) == declared
    # This one is there to refuse another.
    assert set(re.findall(r"\bvar\.(\w+)", outside)) == declared - {"database_now"}
    resources = set(re.findall(r'^resource "(\w+)" "(\w+)"', bare, re.MULTILINE))
    used = set(re.findall(r"(?<![.\w])((?:aws|azurerm|google)_\w+)\.(\w+)", bare))
    assert used <= resources | {(kind, name) for kind, name in re.findall(r'^data "(\w+)" "(\w+)"', bare, re.MULTILINE)}


@pytest.mark.parametrize("module", _MODULES)
def test_a_value_that_can_be_wrong_is_checked(module: str, folder: Path) -> None:
    for path in (folder / "modules" / module).glob("variables.tf"):
        for name, body in re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', _text(path), re.MULTILINE | re.DOTALL):
            assert "description" in body, name
            free = "bool" in body or "map(string)" in body or name in _FREE
            assert free != ("validation {" in body) or name in _BOTH, name


# Names that only the cloud can judge, and counters.
_FREE: Final = {"resource_group_name", "location", "project", "owner_password_version", "database_now"}
# A switch that is checked against another variable.
_BOTH: Final = {"zone_redundant", "database_iam_auth", "aurora_global"}


def test_the_readme_sets_variables_that_exist(folder: Path) -> None:
    set_there = set(re.findall(r"-var='?(\w+)=", _text(folder / "README.md")))
    assert {"stage", "region"} <= set_there <= set(_variables(folder))


def test_the_readme_shows_what_a_plan_ends_with(planned: dict[str, Any] | None, folder: Path) -> None:
    # The reader's plan has one gateway where this one has two and endpoints, and no rotation.
    if planned is not None:
        [shown] = re.findall(r"`Plan: (\d+) to add", _text(folder / "README.md"))
        created = [each["address"] for each in planned["resource_changes"] if each["change"]["actions"] == ["create"]]
        assert int(shown) == len([address for address in created if not _NOT_BY_DEFAULT.search(address)])
        assert set(re.findall(r"(\d+) resources", _text(PROJECT / "docs/operations.md"))) == {shown}


# Rotation; the workflows' roles; what interface endpoints need; the second of each thing that a second gateway brings.
_NOT_BY_DEFAULT: Final = re.compile(
    r"rotation|github|backup|vault|second_key|workflow|endpoints\b|vpc_endpoint\.interface|(?:nat_gateway|eip|subnet|association)\.(?:this|nat|public)\[1\]"
)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _files(pattern: str) -> Iterator[Path]:
    return (PROJECT / "infra/terraform").glob(pattern)


def _variables(module: Path) -> list[str]:
    return re.findall(r'^variable "(\w+)"', _text(module / "variables.tf"), re.MULTILINE)


def _parameters(folder: Path) -> set[str]:
    text = _text(folder / "modules/aws/outputs.tf")
    [listed] = re.findall(r"^  parameters = \{\n(.*?)^  \}", text, re.MULTILINE | re.DOTALL)
    return {*re.findall(r"^    (\w+) +=", listed, re.MULTILINE), *re.findall(r"/fusewire/\$\{var.stage\}/(\w+)", text)}


def _declared_types(module: Path) -> Iterator[str]:
    for path in module.glob("*.tf"):
        yield from re.findall(r'^resource "(\w+)"', _text(path), re.MULTILINE)


def _leaves(value: object, name: str = "") -> Iterator[tuple[str, object]]:
    """Every value that isn't a container, with the name of the attribute that it stands under."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, name)
    else:
        yield name, value
