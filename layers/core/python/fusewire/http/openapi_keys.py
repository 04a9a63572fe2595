"""The OpenAPI entries of `functions/admin_keys`, and how a key is sent and what is answered without."""

from collections.abc import Callable
from typing import Any, Final

from pydantic import BaseModel

from fusewire.ai.tiers import CLASSIFICATIONS
from fusewire.http.budget import ResetRequest
from fusewire.http.identity import SCOPES
from fusewire.http.keys import CreateKeyRequest, RotateKeyRequest, UpdateKeyRequest

_Get = Callable[[str, str, dict[str, Any], tuple[int, ...]], dict[str, Any]]
_Post = Callable[[str, str, type[BaseModel], dict[str, Any], tuple[int, ...]], dict[str, Any]]

KEY_BODIES: Final[tuple[type[BaseModel], ...]] = (CreateKeyRequest, UpdateKeyRequest, RotateKeyRequest)
SECURITY_SCHEMES: Final = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "As OpenAI's SDKs send it."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key", "description": "As Anthropic's SDKs send it."},
}
SECURITY: Final[list[dict[str, list[str]]]] = [{"bearer": []}, {"apiKey": []}]
FOR_EVERYBODY: Final = ("/api/v1/health", "/api/v1/openapi.json")

_MONEY: Final = {"type": "number", "description": "USD, exact"}
_NO_MONEY: Final = {"type": ["number", "null"], "description": "USD, exact; null: no budget of its own"}
_TEXT: Final = {"type": "string"}
_TIME: Final = {"type": "string", "format": "date-time"}
_LATER: Final = {"type": ["string", "null"], "format": "date-time"}
_LIMIT: Final = {"type": ["integer", "null"]}
_NAMES: Final = {"type": ["array", "null"], "items": _TEXT}
_SECRET: Final = {
    "type": "object",
    "required": ["prefix", "created_at", "expires_at"],
    "properties": {"prefix": _TEXT, "created_at": _TIME, "expires_at": _LATER},
}
_KEY: Final[dict[str, Any]] = {
    "type": "object",
    "required": [
        "id", "name", "scopes", "monthly_budget_usd", "requests_per_minute", "tokens_per_minute", "allowed_models",
        "allowed_classifications", "expires_at", "tags", "prefix", "secrets", "created_at", "created_by", "revoked_at",
        "current_spend_usd", "reserved_usd", "remaining_usd", "state", "window", "minute",
    ],
    "properties": {
        "id": _TEXT,
        "name": _TEXT,
        "scopes": {"type": "array", "items": {"enum": list(SCOPES)}},
        "monthly_budget_usd": _NO_MONEY,
        "requests_per_minute": _LIMIT,
        "tokens_per_minute": _LIMIT,
        "allowed_models": _NAMES,
        "allowed_classifications": {"type": ["array", "null"], "items": {"enum": list(CLASSIFICATIONS)}},
        "expires_at": _LATER,
        "tags": {"type": "object", "additionalProperties": _TEXT},
        "prefix": _TEXT,
        "secrets": {"type": "array", "items": _SECRET},
        "created_at": _TIME,
        "created_by": _TEXT,
        "revoked_at": _LATER,
        "current_spend_usd": _MONEY,
        "reserved_usd": _MONEY,
        "remaining_usd": _NO_MONEY,
        "state": {"enum": ["CLOSED", "HALF_OPEN", "OPEN"]},
        "window": {
            "type": ["object", "null"],
            "description": "null before the first call of the month",
            "properties": {"id": {"type": "integer"}, "opened_at": _TIME, "resets_at": _TIME},
        },
        "minute": {
            "type": ["object", "null"],
            "properties": {
                "requests_left": _LIMIT,
                "tokens_left": _LIMIT,
                "ends_in_seconds": {"type": "integer"},
            },
        },
    },
}  # fmt: skip
_MADE: Final = _KEY | {
    "required": [*_KEY["required"], "key"],
    "properties": _KEY["properties"] | {"key": _TEXT | {"description": "The secret, shown this once."}},
}
_SHOWN: Final = _KEY | {
    "required": [*_KEY["required"], "forecast"],
    "properties": _KEY["properties"]
    | {
        "forecast": {
            "type": "object",
            "required": ["month_end_usd", "exhausted_at"],
            "properties": {"month_end_usd": {"type": ["number", "null"]}, "exhausted_at": _LATER},
        }
    },
}
_PAGE: Final = {
    "type": "object",
    "required": ["rows", "next_cursor"],
    "properties": {"rows": {"type": "array", "items": _KEY}, "next_cursor": {"type": ["string", "null"]}},
}
_ID: Final = [{"name": "id", "in": "path", "required": True, "schema": _TEXT}]
_LISTED: Final = [
    {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}},
    {"name": "cursor", "in": "query", "schema": _TEXT},
]


def key_paths(get: _Get, post: _Post, reset_answer: dict[str, Any], statuses: tuple[int, ...]) -> dict[str, Any]:
    """The paths with their operations.

    :param get: makes an operation of its id, summary, answer and the statuses of its errors; `post` one with a body
    :param statuses: of any read
    """
    of_one, sent = (404, *statuses), (400, 413, *statuses)
    create = post("createKey", "A new key", CreateKeyRequest, _MADE, sent)
    create["responses"]["201"] = create["responses"].pop("200")
    reset = post("resetKey", "Close the key's window and open the next", ResetRequest, reset_answer, (404, *sent))
    reset["requestBody"]["required"] = False
    one = {
        "get": get("showKey", "A key, its budget and its forecast", _SHOWN, of_one),
        "patch": post("updateKey", "Change the fields that are sent", UpdateKeyRequest, _KEY, (404, *sent)),
        "delete": get("revokeKey", "End a key for good; the answer is what it was", _KEY, of_one),
    }
    rotate = post("rotateKey", "A second secret, which replaces the first", RotateKeyRequest, _MADE, (404, *sent))
    paths: dict[str, Any] = {
        "/api/v1/admin/keys": {
            "get": get("listKeys", "Keys, the newest first", _PAGE, (400, *statuses)) | {"parameters": _LISTED},
            "post": create,
        },
        "/api/v1/admin/keys/{id}": {method: operation | {"parameters": _ID} for method, operation in one.items()},
        "/api/v1/admin/keys/{id}/rotate": {"post": rotate | {"parameters": _ID}},
        "/api/v1/admin/keys/{id}/reset": {"post": reset | {"parameters": _ID}},
    }
    for operation in (operation for item in paths.values() for operation in item.values()):
        if "404" in operation["responses"]:
            operation["responses"]["404"]["description"] = "There is no such key."
    return paths


def guard(paths: dict[str, Any], error: dict[str, Any], anthropics: dict[str, Any]) -> None:
    """Add to every route that isn't for everybody what is answered to callers without the right key.

    :param error: the schema of an error; `anthropics` of one in Anthropic's format
    """
    for path, item in paths.items():
        for operation in item.values():
            if path in FOR_EVERYBODY:
                operation["security"] = []
                continue
            told = {
                "401": "No valid API key was given.",
                "403": "The key doesn't have the scope, or may not use this model or classification. With "
                "`AUTH_MODE=open`: the request is a strange web page's, or its `Host` isn't this machine.",
            }
            # In front of the function API Gateway answers, which knows one format.
            schema = {"anyOf": [error, anthropics]} if path == "/api/v1/messages" else error
            for status, description in told.items():
                operation["responses"][status] = {
                    "description": description,
                    "content": {"application/json": {"schema": schema}},
                }
