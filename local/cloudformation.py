"""A CloudFormation template as data: YAML, with CloudFormation's short functions (`!Ref`, `!Sub`, ...)."""

from dataclasses import dataclass
from typing import Any

import yaml


@dataclass(frozen=True, slots=True)
class Ref:
    """`!Ref name`."""

    name: str


class _Loader(yaml.SafeLoader):
    """Plain YAML besides."""


def _short_function(loader: _Loader, suffix: str, node: yaml.Node) -> object:
    if isinstance(node, yaml.ScalarNode) and suffix in ("Ref", "Sub"):
        text = str(loader.construct_scalar(node))
        return Ref(text) if suffix == "Ref" else text
    return None


_Loader.add_multi_constructor("!", _short_function)


def load(text: str) -> dict[str, Any]:
    """:return: the template, with `!Ref` as `Ref`, `!Sub` as its text, and None for every other short function
    :raises yaml.YAMLError: for what isn't YAML
    """
    document: dict[str, Any] = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    return document
