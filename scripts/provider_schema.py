"""`python -m scripts.provider_schema WHEEL RESOURCE... > FILE`: what a Terraform provider's resources take, by name.

Not every machine can have the providers for Azure and Google, and wheels of bindings that HashiCorp generated from
their schemas are on PyPI: `pip download --no-deps cdktf-cdktf-provider-azurerm==14.23.1` (azurerm 4.55.0) and
`cdktf-cdktf-provider-google==16.12.1` (google 6.50.0). A test holds the modules against what this prints.
"""

import ast
import json
import re
import sys
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any, Final

_META: Final = {"connection", "count", "depends_on", "for_each", "id", "lifecycle", "provider", "provisioners"}
_PROVIDER: Final = re.compile(r"registry\.terraform\.io/providers/(hashicorp/\w+)/([\d.]+)")


def schema(wheel: str, resources: Sequence[str]) -> dict[str, Any]:
    """:return: the provider, and for each resource its attributes' names, with a nested object for each block"""
    with zipfile.ZipFile(wheel) as archive:
        provider = resources[0].split("_")[0]
        found = {}
        for resource in resources:
            module = resource.removeprefix(f"{provider}_")
            text = archive.read(f"cdktf_cdktf_provider_{provider}/{module}/__init__.py").decode()
            structs = dict(_structs(ast.parse(text)))
            class_name = _camel(module)
            found[resource] = _block(class_name, structs[f"{class_name}Config"] - _META, structs)
        [(name, version), *_] = _PROVIDER.findall(text)
    return {"provider": name, "version": version, "resources": found}


def _structs(module: ast.Module) -> Iterator[tuple[str, set[str]]]:
    """The names that each struct of jsii's takes."""
    for each in module.body:
        if isinstance(each, ast.ClassDef):
            for decorator in each.decorator_list:
                if isinstance(decorator, ast.Call):
                    for keyword in decorator.keywords:
                        if keyword.arg == "name_mapping":
                            yield each.name, set(ast.literal_eval(keyword.value))


def _block(class_name: str, names: set[str], structs: dict[str, set[str]]) -> dict[str, Any]:
    inner = {name: f"{class_name}{_camel(name)}" for name in names}
    return {
        name: _block(inner[name], structs[inner[name]], structs) if inner[name] in structs else None
        for name in sorted(names)
    }


def _camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split("_"))


if __name__ == "__main__":
    json.dump(schema(sys.argv[1], sys.argv[2:]), sys.stdout, indent=1)
    sys.stdout.write("\n")
