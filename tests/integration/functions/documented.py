"""What a function answers is what the OpenAPI document says: its status, its headers and its body."""

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import jsonschema_rs

from fusewire.http.openapi.document import document

_FRAMEWORKS = {"content-type", "cache-control", "x-accel-buffering", "vary"}


@cache
def _document() -> dict[str, Any]:
    return document()


@cache
def _validator(path: str, method: str, status: str, content_type: str) -> jsonschema_rs.Validator:
    content = _document()["paths"][path][method]["responses"][status]["content"]
    schema = content[content_type]["schema"] | {"components": _document()["components"]}
    return jsonschema_rs.validator_for(schema, validate_formats=True)


def assert_documented(event: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
    """
    :param event: of a route that is declared
    :raises AssertionError: where the answer and the document disagree
    """
    resource = re.sub("^/v1/", "/api/v1/", event["resource"]).replace("+}", "}")
    path, method, status = resource, event["httpMethod"].lower(), str(answer["statusCode"])
    operation = _document()["paths"][path][method]
    assert status in operation["responses"], f"{method} {path} may not answer {status}: {answer['body'][:300]}"
    documented = {name.lower() for name in operation["responses"][status]["headers"]}
    sent = {name.lower() for name in answer["headers"] if not name.lower().startswith("access-control-")}
    assert sent - _FRAMEWORKS <= documented, f"{method} {path} {status}: {sent - _FRAMEWORKS - documented}"
    content_type = answer["headers"]["Content-Type"].partition(";")[0]
    if content_type == "application/json":
        _validator(path, method, status, content_type).validate(json.loads(answer["body"]))
