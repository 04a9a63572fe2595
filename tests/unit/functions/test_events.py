"""`events/`: one sample per route and trigger, in the shape in which AWS sends them.

`make docs` writes those of routes. tests/unit/scripts/docs/test_documents.py holds them to the routes.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from scripts.docs.handlers import handled_by

ROOT = Path(__file__).parents[3]
SAMPLES: dict[str, dict[str, Any]] = {
    file.stem: json.loads(file.read_text()) for file in sorted((ROOT / "events").glob("*.json"))
}
REST = {name: event for name, event in SAMPLES.items() if "httpMethod" in event and "methodArn" not in event}
FUNCTIONS = [file.parent.name for file in sorted((ROOT / "functions").glob("*/app.py"))]

# As API Gateway documents "Input format of a Lambda function for proxy integration" for REST APIs.
REST_KEYS = {
    "resource", "path", "httpMethod", "headers", "multiValueHeaders", "queryStringParameters",
    "multiValueQueryStringParameters", "pathParameters", "stageVariables", "requestContext", "body", "isBase64Encoded",
}  # fmt: skip


def samples_of(function: str) -> list[str]:
    """A sample is named after its function, with more words where the function has more than one."""
    owners = {name: max((f for f in FUNCTIONS if name.startswith(f)), key=len, default="") for name in SAMPLES}
    return [name for name, owner in owners.items() if owner == function]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_route_has_exactly_one_sample(function: str) -> None:
    result = [(REST[name]["httpMethod"], REST[name]["resource"]) for name in samples_of(function) if name in REST]
    handled = [(route.method, route.path) for route in handled_by(ROOT / "functions" / function / "app.py")]
    assert sorted(result) == sorted(handled), "run `make docs`, and delete the samples of routes that are gone"
    assert samples_of(function), "another trigger has its sample too"


def test_no_sample_is_without_a_function() -> None:
    assert {name for function in FUNCTIONS for name in samples_of(function)} == set(SAMPLES), (
        "delete the samples of functions that are gone"
    )


@pytest.mark.parametrize("name", REST)
def test_a_rest_sample_is_complete(name: str) -> None:
    event = REST[name]
    assert set(event) == REST_KEYS
    context = event["requestContext"]
    assert (context["httpMethod"], context["resourcePath"]) == (event["httpMethod"], event["resource"])
    assert context["requestId"]
    assert re.fullmatch(r"192\.0\.2\.\d+", context["identity"]["sourceIp"]), "an address for documentation"
    assert event["multiValueHeaders"] == {key: [value] for key, value in event["headers"].items()}
    if event["body"] is not None:
        json.loads(event["body"])


def test_request_ids_tell_the_samples_apart() -> None:
    ids = [event["requestContext"]["requestId"] for event in REST.values()]
    assert len(set(ids)) == len(ids)


def test_the_authorizers_sample_is_a_request_without_its_body() -> None:
    event = SAMPLES["authorizer"]
    assert set(event) == REST_KEYS - {"body", "isBase64Encoded"} | {"type", "methodArn"}
    assert event["type"] == "REQUEST"
    assert event["methodArn"].endswith(f"/{event['httpMethod']}{event['path']}")


def test_the_schedules_sample_is_what_the_template_sends() -> None:
    template = (ROOT / "infra/template.yaml").read_text()
    (result,) = re.findall(r"Input: '(\{.*\})'", template)
    sent = json.loads(result)
    assert sent == {"time": "<aws.scheduler.scheduled-time>"}
    assert set(SAMPLES["monthly_reset"]) == set(sent)
    assert re.fullmatch(r"\d{4}-\d\d-01T00:00:00Z", SAMPLES["monthly_reset"]["time"])
