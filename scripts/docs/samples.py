"""`events/*.json`: a sample of each route's event, as API Gateway sends it to the route's function.

A sample that is there keeps its name; a new one is named after its function and its route's operation. Samples of
other triggers are written by hand.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import NAMESPACE_URL, uuid5

from fusewire.http.route import Route

EVENTS: Final = Path(__file__).resolve().parents[2] / "events"


class Sample(NamedTuple):
    """What doesn't follow from the route."""

    body: Mapping[str, Any] | None = None
    path: Mapping[str, str] = {}
    """The parameters in the path."""
    query: Mapping[str, str] = {}


def request_id(operation_id: str) -> str:
    """The request's id in the sample of an operation."""
    return str(uuid5(NAMESPACE_URL, operation_id))


_KEY: Final = {"id": "key_019ab2f40c5a7d4e9f3b2c1d0e8f7a6b"}
_BUDGET: Final = {"id": "bud_019ab2f40c5a7d4e9f3b2c1d0e8f7a6b"}
_PRICE: Final = {"id": "019ade00-0000-7000-8000-000000000001"}
_RESPONSE: Final = {"id": f"resp_{request_id('responses').replace('-', '')}"}
_QUESTION: Final = "What is the capital of France?"
_MESSAGES: Final = [{"role": "user", "content": _QUESTION}]
SAMPLES: Final = {
    "complete": Sample({"model": "sota", "messages": _MESSAGES, "max_tokens": 64}),
    "messages": Sample({"model": "sota", "max_tokens": 64, "messages": _MESSAGES}),
    "countTokens": Sample({"model": "sota", "messages": _MESSAGES}),
    "responses": Sample({"model": "sota", "input": _QUESTION, "max_output_tokens": 64, "store": False}),
    "showResponse": Sample(path=_RESPONSE),
    "deleteResponse": Sample(path=_RESPONSE),
    "embed": Sample({"model": "sota", "input": ["Paris", "Berlin"]}),
    "showModel": Sample(path={"id": "sota"}),
    "setBudgetLimit": Sample({"monthly_limit_usd": 600, "until": "window", "reason": "launch week"}),
    "resetBudget": Sample({"reason": "new contract"}),
    "adjustBudget": Sample({"amount_usd": 12.5, "reason": "invoice of October"}),
    "createBudget": Sample(
        {
            "name": "search team",
            "limit_usd": 200,
            "period": "month",
            "alert_threshold": 0.7,
            "models": ["sota", "openai/*"],
        }
    ),
    "showBudgetNode": Sample(path=_BUDGET),
    "updateBudget": Sample({"limit_usd": 250, "models": None}, path=_BUDGET),
    "deleteBudget": Sample(path=_BUDGET),
    "resetBudgetNode": Sample({"reason": "new contract"}, path=_BUDGET),
    "showProviders": Sample(query={"probe": "true"}),
    "showUsage": Sample(query={"group_by": "day,model"}),
    "listCalls": Sample(query={"status": "settled", "limit": "20"}),
    "showCall": Sample(path={"request_id": request_id("complete")}),
    "addPrice": Sample(
        {
            "provider": "openai",
            "model": "gpt-4o",
            "price": {"input_mtok": 2.75, "output_mtok": 11, "cached_input_mtok": 1.375},
            "effective_from": "2099-01-01T00:00:00Z",
        }
    ),
    "applyPrice": Sample({}, path=_PRICE),
    "removePrice": Sample(path=_PRICE),
    "removeAllowance": Sample(path={"id": "vllm/org/model"}),
    "createKey": Sample(
        {
            "name": "search team",
            "scopes": ["complete"],
            "monthly_budget_usd": 50,
            "requests_per_minute": 60,
            "tokens_per_minute": 100000,
            "allowed_models": ["cost_effective", "openai/*"],
            "allowed_classifications": ["public", "internal"],
            "tags": {"team": "search", "cost_centre": "4711"},
        }
    ),
    "showKey": Sample(path=_KEY),
    "updateKey": Sample({"monthly_budget_usd": 75, "requests_per_minute": None}, path=_KEY),
    "revokeKey": Sample(path=_KEY),
    "rotateKey": Sample({"overlap_seconds": 3600}, path=_KEY),
    "resetKey": Sample({"reason": "new contract"}, path=_KEY),
}
"""By operation. One without a body and without parameters in its path may be left out."""

_AGENTS: Final = {"openai": "OpenAI/Python 3.54.0", "anthropic": "Anthropic/Python 2.13.0"}
_ADDRESS: Final = "192.0.2.1"
_HOST: Final = "api.example.com"
_NOBODY: Final = (
    "accessKey", "accountId", "caller", "cognitoAuthenticationProvider", "cognitoAuthenticationType",
    "cognitoIdentityId", "cognitoIdentityPoolId", "principalOrgId",
)  # fmt: skip


def with_samples(events: Mapping[str, str], handled: Mapping[str, Sequence[Route]]) -> dict[str, str]:
    """A sample for each route, as JSON, by its file's name without `.json`.

    :param events: the samples that are there, in the same way
    :param handled: the routes of each function, by its folder's name
    :raises ValueError: where `SAMPLES` lacks a body or a parameter of a path
    """
    names = {(_of(text), owner): name for name, text in events.items() if (owner := _owner(name, handled))}
    return {
        names.get(((route.method, route.path), function)) or _new_name(function, route): sample_of(route)
        for function, routes in handled.items()
        for route in routes
    }


def _of(text: str) -> tuple[str | None, str | None]:
    event = json.loads(text)
    return (None, None) if "methodArn" in event else (event.get("httpMethod"), event.get("resource"))


def _owner(name: str, handled: Mapping[str, Sequence[Route]]) -> str:
    return max((function for function in handled if name.startswith(function)), key=len, default="")


def _new_name(function: str, route: Route) -> str:
    words = re.sub("([A-Z])", r"_\1", route.operation_id).lower()
    return f"{function}_{words}"


def sample_of(route: Route) -> str:
    """The sample of a route's event, as JSON.

    :raises ValueError: where `SAMPLES` lacks its body or a parameter of its path
    """
    sample = SAMPLES.get(route.operation_id, Sample())
    in_path = {part.strip("{+}") for part in route.path.split("/") if part.startswith("{")}
    if in_path != {*sample.path} or (sample.body is None and route.body and not route.empty_body):
        raise ValueError(f"SAMPLES of scripts/docs/samples.py need the body and path of {route.operation_id}.")
    path = re.sub(r"\{(\w+)\+?\}", lambda found: sample.path[found[1]], route.path)
    headers = _headers(route, sample)
    event = {
        "resource": route.path,
        "path": path,
        "httpMethod": route.method,
        "headers": headers,
        "multiValueHeaders": {name: [value] for name, value in headers.items()},
        "queryStringParameters": dict(sample.query) or None,
        "multiValueQueryStringParameters": {name: [value] for name, value in sample.query.items()} or None,
        "pathParameters": dict(sample.path) or None,
        "stageVariables": None,
        "requestContext": _context(route, path, headers["User-Agent"]),
        "body": None if sample.body is None else json.dumps(sample.body),
        "isBase64Encoded": False,
    }
    return json.dumps(event, indent=2) + "\n"


def _headers(route: Route, sample: Sample) -> dict[str, str]:
    headers = {
        "Accept": "application/json",
        "Host": _HOST,
        "User-Agent": _AGENTS[route.error_format],
        "X-Amzn-Trace-Id": f"Root=1-67891233-{request_id(route.operation_id).replace('-', '')[:24]}",
        "X-Forwarded-For": _ADDRESS,
        "X-Forwarded-Port": "443",
        "X-Forwarded-Proto": "https",
    }
    if sample.body is not None:
        headers["Content-Type"] = "application/json"
    if route.error_format == "anthropic":
        headers |= {"x-api-key": "none", "anthropic-version": "2023-06-01"}
    return headers


def _context(route: Route, path: str, agent: str) -> dict[str, Any]:
    return {
        "accountId": "123456789012",
        "apiId": "1234567890",
        "domainName": _HOST,
        "domainPrefix": "api",
        "extendedRequestId": "JKJaXmPLvHcESHA=",
        "httpMethod": route.method,
        "identity": {
            **dict.fromkeys(_NOBODY),
            "sourceIp": _ADDRESS,
            "user": None,
            "userAgent": agent,
            "userArn": None,
        },
        "path": path,
        "protocol": "HTTP/1.1",
        "requestId": request_id(route.operation_id),
        "requestTime": "24/Nov/2026:12:00:00 +0000",
        "requestTimeEpoch": 1795521600000,
        "resourceId": "123456",
        "resourcePath": route.path,
        "stage": "prod",
    }
