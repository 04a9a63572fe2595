"""The transformed template with values in its parameters' place, as CloudFormation would have them before it begins."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

REGION: Final = "eu-central-1"
ACCOUNT: Final = "123456789012"
_PSEUDO: Final = {"AWS::Region": REGION, "AWS::AccountId": ACCOUNT, "AWS::Partition": "aws", "AWS::StackName": "s"}
_NOTHING: Final = object()


class Stack:
    """What the template says under these parameters. A resource's attribute is whatever `attributes` holds of it."""

    def __init__(self, template: Mapping[str, Any], parameters: Mapping[str, str]) -> None:
        declared = template["Parameters"]
        unknown = parameters.keys() - declared.keys()
        assert not unknown, unknown
        defaults = {name: str(each["Default"]) for name, each in declared.items() if "Default" in each}
        self._values: dict[str, Any] = {**_PSEUDO, **defaults, **parameters}
        for name, each in declared.items():
            if each["Type"] == "CommaDelimitedList" and name in self._values:
                self._values[name] = self._values[name].split(",")
        self._template = template
        self.physical: dict[str, str] = {}
        """What `Ref` gives for a resource: the name by which it was made."""
        self.attributes: dict[tuple[str, str], str] = {}
        """What `Fn::GetAtt` gives."""

    def resources(self) -> dict[str, dict[str, Any]]:
        """Those whose condition holds."""
        found = self._template["Resources"].items()
        return {name: each for name, each in found if "Condition" not in each or self._holds(each["Condition"])}

    def properties(self, name: str) -> dict[str, Any]:
        """A resource's, resolved."""
        resolved: dict[str, Any] = self.resolved(self._template["Resources"][name].get("Properties", {}))
        return resolved

    def resolved(self, value: Any) -> Any:  # noqa: ANN401 - JSON
        """With every function of CloudFormation's carried out."""
        if isinstance(value, list):
            return [each for each in map(self.resolved, value) if each is not _NOTHING]
        if not isinstance(value, dict):
            return value
        name = next(iter(value), "")
        if len(value) == 1 and (name == "Ref" or name.startswith("Fn::")):
            return self._functions()[name](value[name])
        if value.keys() == {"Condition"} and isinstance(value["Condition"], str):
            return self._holds(value["Condition"])
        found = {name: self.resolved(each) for name, each in value.items()}
        return {name: each for name, each in found.items() if each is not _NOTHING}

    def _functions(self) -> dict[str, Callable[[Any], Any]]:
        """Those that the template uses."""
        return {
            "Ref": self._reference,
            "Fn::If": lambda given: self.resolved(given[1] if self._holds(given[0]) else given[2]),
            "Fn::Equals": lambda given: str(self.resolved(given[0])) == str(self.resolved(given[1])),
            "Fn::Not": lambda given: not self.resolved(given[0]),
            "Fn::And": lambda given: all(map(self.resolved, given)),
            "Fn::GetAtt": lambda given: self._attribute(*given),
            "Fn::Sub": lambda given: self._filled(*given) if isinstance(given, list) else self._filled(given, {}),
            "Fn::FindInMap": lambda given: self._found_in_map(*map(self.resolved, given)),
            "Fn::Join": lambda given: given[0].join(self.resolved(given[1])),
        }

    def _found_in_map(self, name: str, first: str, second: str) -> Any:  # noqa: ANN401 - JSON
        return self._template["Mappings"][name][first][second]

    def _filled(self, text: str, names: Mapping[str, Any]) -> str:
        return re.sub(r"\$\{([\w:.]+)\}", lambda found: self._substituted(found[1], names), text)

    def _substituted(self, name: str, names: Mapping[str, Any]) -> str:
        if name in names:
            return str(self.resolved(names[name]))
        resource, dot, attribute = name.partition(".")
        return str(self._attribute(resource, attribute) if dot else self._reference(name))

    def _reference(self, name: str) -> Any:  # noqa: ANN401 - a parameter's value, or a resource's name
        if name == "AWS::NoValue":
            return _NOTHING
        if name in self._values:
            return self._values[name]
        assert name in self._template["Resources"] or name in self._template["Parameters"], name
        return self.physical.get(name, name)

    def _attribute(self, resource: str, attribute: str) -> str:
        kind = self._template["Resources"][resource]["Type"].split("::")[1].lower()
        made_up = f"arn:aws:{kind}:{REGION}:{ACCOUNT}:{resource}" if attribute == "Arn" else f"{resource}.{attribute}"
        return self.attributes.get((resource, attribute), made_up)

    def _holds(self, condition: str) -> bool:
        return bool(self.resolved(self._template["Conditions"][condition]))
