"""What a cheaper shape switches in infra/template.yaml, and that the examples name variables that there are."""

import re
from typing import Final

from local.cloudformation import load
from scripts.deploy.settings import parameters_of
from scripts.deploy.target import PROJECT

TEMPLATE: Final = (PROJECT / "infra/template.yaml").read_text()


def uncommented(name: str) -> str:
    """An example with the lines that are switched off switched on."""
    text = (PROJECT / "infra" / name).read_text()
    return re.sub(r"^# (\w+ *=)", r"\1", text, flags=re.MULTILINE)


def test_the_settings_of_the_example_are_taken() -> None:
    found = parameters_of(TEMPLATE, uncommented("example.env"))
    assert found["MemoryMb"] == "256"


def test_the_variables_of_the_example_are_terraforms() -> None:
    declared = set(
        re.findall(r'^variable "(\w+)"', (PROJECT / "infra/terraform/variables.tf").read_text(), re.MULTILINE)
    )
    named = set(re.findall(r"^(\w+) *=", uncommented("example.tfvars"), re.MULTILINE))
    assert {"nat_instance", "ipv6_egress", "backup_lock"} <= named <= declared


def test_functions_go_out_by_ipv6_where_terraform_has_it_and_to_awss_dual_stack_where_there_is_nothing_else() -> None:
    assert load(TEMPLATE)["Parameters"]["Ipv6Egress"] == {"Type": "String"}, "Terraform writes it"
    assert "Ipv6AllowedForDualStack: !If [HasIpv6, true, false]" in TEMPLATE
    assert 'HasIpv6: !Not [!Equals [!Ref Ipv6Egress, "off"]]' in TEMPLATE
    assert "HasIpv6Alone: !Equals [!Ref Ipv6Egress, alone]" in TEMPLATE
    assert 'AWS_USE_DUALSTACK_ENDPOINT: !If [HasIpv6Alone, "true", "false"]' in TEMPLATE
    written = (PROJECT / "infra/terraform/modules/aws/outputs.tf").read_text()
    assert '!var.ipv6_egress ? "off" : local.public_subnets > 0 ? "beside" : "alone"' in written


def test_every_function_has_the_memory_that_is_set_and_three_have_snapshots_unless_they_are_off() -> None:
    document = load(TEMPLATE)
    assert document["Globals"]["Function"]["MemorySize"].name == "MemoryMb"
    assert TEMPLATE.count("SnapStart: {ApplyOn: !If [TakesSnapshots, PublishedVersions, None]}") == 3
    assert document["Parameters"]["Snapshots"]["AllowedValues"] == ["on", "off"]
