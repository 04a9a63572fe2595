"""What is asked of AWS, as botocore's own events tell it: each signed request, with its parameters."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import boto3  # type: ignore[import-untyped]
import botocore.session  # type: ignore[import-untyped]
import pytest


@dataclass(frozen=True)
class AwsCall:
    """One signed request: `signing_name` is the service's in IAM, `operation` the API's or, presigned, the action."""

    signing_name: str
    operation: str
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)


@contextmanager
def recorded_aws_calls() -> Iterator[list[AwsCall]]:
    """Every call of the sessions that are made within the block."""
    calls: list[AwsCall] = []
    asked: dict[str, Mapping[str, Any]] = {}
    make = botocore.session.Session.__init__

    def built(params: Mapping[str, Any], model: Any, **_: object) -> None:  # noqa: ANN401 - botocore has no types
        asked[model.name] = dict(params)

    def signed(operation_name: str, signing_name: str, **_: object) -> None:
        calls.append(AwsCall(signing_name, operation_name, asked.pop(operation_name, {})))

    def made(self: Any, *arguments: object, **named: object) -> None:  # noqa: ANN401 - botocore has no types
        make(self, *arguments, **named)
        self.register("before-parameter-build.*.*", built)
        self.register("before-sign.*.*", signed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session.Session, "__init__", made)
        patch.setattr(boto3, "DEFAULT_SESSION", None)
        yield calls
