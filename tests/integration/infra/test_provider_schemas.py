"""modules/azure and modules/gcp against the schemas of their providers, which aren't on every machine.

`schemas/` is what `python -m scripts.provider_schema` reads of the bindings that HashiCorp generated from them.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.integration.infra.sam import PROJECT, done

_SCHEMAS: Final = PROJECT / "tests/integration/infra/schemas"
_PARSE: Final = "import hcl2, json, sys; print(json.dumps(hcl2.load(open(sys.argv[1]))))"
_TERRAFORMS_OWN: Final = {"count", "for_each", "lifecycle", "depends_on", "provider"}
MODULES = pytest.mark.parametrize("module", ["azure", "gcp"])


@pytest.fixture
def schema(module: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((_SCHEMAS / f"{module}.json").read_text())
    return found


@pytest.fixture
def resources(module: str) -> list[tuple[str, dict[str, Any]]]:
    """Type and body of each resource."""
    parsed = json.loads(done("python", "-c", _PARSE, str(PROJECT / f"infra/terraform/modules/{module}/main.tf")))
    return [
        (_bare(kind), body)
        for each in parsed["resource"]
        for kind, named in each.items()
        for body in named.values()
    ]  # fmt: skip


@MODULES
def test_the_schema_is_of_the_provider_that_the_module_asks_for(module: str, schema: dict[str, Any]) -> None:
    asked = (PROJECT / f"infra/terraform/modules/{module}/versions.tf").read_text()
    major_and_minor = ".".join(schema["version"].split(".")[:2])
    assert f'"{schema["provider"]}"' in asked and f'"~> {major_and_minor}"' in asked


@MODULES
def test_every_attribute_and_block_is_one_that_the_provider_knows(
    schema: dict[str, Any], resources: list[tuple[str, dict[str, Any]]]
) -> None:
    assert {kind for kind, _ in resources} == schema["resources"].keys()
    used = 0
    for kind, body in resources:
        for path, name, known in _uses(body, schema["resources"][kind], kind):
            assert name in known, f"{path}.{name}"
            used += 1
    assert used > 25


@pytest.mark.parametrize(
    ("module", "path", "expected"),
    [
        ("azure", "azurerm_postgresql_flexible_server.backup_retention_days", "${var.backup_retention_days}"),
        ("azure", "azurerm_postgresql_flexible_server.public_network_access_enabled", "False"),
        ("gcp", "google_sql_database_instance.settings.backup_configuration.point_in_time_recovery_enabled", "True"),
        ("gcp", "google_sql_database_instance.settings.ip_configuration.ipv4_enabled", "False"),
    ],
)
def test_backups_and_networks_are_as_the_ledger_needs_them(
    path: str, expected: str, resources: list[tuple[str, dict[str, Any]]]
) -> None:
    value: Any = dict(resources)
    for name in path.split("."):
        value = value[0][name] if isinstance(value, list) else value[name]
    assert str(value[0]) == expected  # this parser has each value in a list


@MODULES
def test_backups_are_kept_for_thirty_days(module: str) -> None:
    variables = (PROJECT / f"infra/terraform/modules/{module}/variables.tf").read_text()
    name = {"azure": "backup_retention_days", "gcp": "retained_backups"}[module]
    assert re.search(rf'variable "{name}" \{{[^}}]*default +=\s+30\n', variables)


def _uses(body: dict[str, Any], known: dict[str, Any], path: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Where something stands, its name, and what is known there."""
    for name, value in body.items():
        if name in _TERRAFORMS_OWN or name.startswith("__"):
            continue
        if name == "dynamic":
            for each in value:
                for block, dynamic in each.items():
                    yield path, _bare(block), known
                    yield from _uses(dynamic["content"][0], known[_bare(block)] or {}, f"{path}.{_bare(block)}")
            continue
        yield path, name, known
        if isinstance(known.get(name), dict):
            for inner in value:
                yield from _uses(inner, known[name], f"{path}.{name}")


def _bare(name: str) -> str:
    return name.strip('"')
