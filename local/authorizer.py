"""API Gateway's Lambda authorizer on a laptop: asks the function before a route's own, and does what its policy says.

https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-use-lambda-authorizer.html
"""

import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Final, Literal

from local.invocation import Invocation, InvocationError
from local.pool import Pool

Kind = Literal["UNAUTHORIZED", "ACCESS_DENIED", "AUTHORIZER_FAILURE"]

_INVOKE: Final = "execute-api:Invoke"


class RefusedError(Exception):
    """The request goes no further; `kind` is API Gateway's word for it."""

    def __init__(self, kind: Kind, failure: InvocationError | None = None) -> None:
        super().__init__(kind)
        self.kind = kind
        self.failure = failure
        """Why the authorizer gave no answer, where it gave none."""


async def caller_of(pool: Pool, event: Mapping[str, Any]) -> dict[str, str]:
    """Ask the authorizer about a request, which is given to it without its body.

    :return: the context that the route's function gets, all of it strings
    :raises RefusedError: when the request may not pass
    """
    asked, resource = _request(event)
    invocation = Invocation(event["requestContext"]["requestId"], json.dumps(asked).encode())
    pool.invoke(invocation)
    try:
        body = json.loads(await _whole(invocation))
        allowed = _allows(body["policyDocument"]["Statement"], resource)
        context = {name: _text(value) for name, value in (body.get("context") or {}).items()}
        context["principalId"] = _text(body["principalId"])
    except InvocationError as error:
        if error.reason == "Unauthorized":
            raise RefusedError("UNAUTHORIZED") from error
        raise RefusedError("AUTHORIZER_FAILURE", error) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        failure = InvocationError("The authorizer's answer isn't a policy.")
        raise RefusedError("AUTHORIZER_FAILURE", failure) from error
    if not allowed:
        raise RefusedError("ACCESS_DENIED")
    return context


def _request(event: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The REQUEST event, and the name of what is asked for."""
    stage = event["requestContext"]["stage"]
    resource = f"arn:aws:execute-api:local:000000000000:local/{stage}/{event['httpMethod']}{event['path']}"
    kept = {name: value for name, value in event.items() if name not in ("body", "isBase64Encoded")}
    return {"type": "REQUEST", "methodArn": resource, **kept}, resource


async def _whole(invocation: Invocation) -> bytes:
    parts = []
    while (part := await invocation.part()) is not None:
        parts.append(part)
    return b"".join(parts)


def _allows(statements: list[dict[str, Any]] | dict[str, Any], resource: str) -> bool:
    """As IAM decides: one Deny is enough, and without an Allow it is refused as well."""
    effects = {
        each["Effect"]
        for each in (statements if isinstance(statements, list) else [statements])
        if _matches(each["Action"], _INVOKE) and _matches(each["Resource"], resource)
    }
    return effects == {"Allow"}


def _matches(patterns: str | list[str], name: str) -> bool:
    # IAM knows * and ?, and brackets, which a path may hold, mean nothing to it.
    texts = [patterns] if isinstance(patterns, str) else patterns
    return any(fnmatchcase(name, each.replace("[", "[[]")) for each in texts)


def _text(value: object) -> str:
    """:raises TypeError: for what API Gateway passes on to nobody: lists and objects"""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise TypeError(type(value).__name__)
    return str(value)
