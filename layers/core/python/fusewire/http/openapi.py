"""The OpenAPI 3.1 document of every route, made from the same pydantic models that check the requests."""

from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from fusewire import VERSION
from fusewire.ai.vocabulary import ChatRequest, ChatResponse, EmbeddingRequest, EmbeddingResponse
from fusewire.http.budget import ResetRequest
from fusewire.http.messages_request import MessagesRequest
from fusewire.http.openapi_gateway import screen
from fusewire.http.openapi_keys import KEY_BODIES, SECURITY, SECURITY_SCHEMES, guard, key_paths
from fusewire.http.openapi_reports import report_paths
from fusewire.http.responses_request import ResponsesRequest

_REF: Final = "#/components/schemas/{model}"
_EVENTS: Final = {"description": "Server-sent events, as the format's own API reference has them."}
_MONEY: Final = {"type": "number", "description": "USD, exact"}
_TIME: Final = {"type": "string", "format": "date-time"}
_TEXT: Final = {"type": "string"}

_ERROR: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "code", "param"],
            "properties": {
                "message": _TEXT,
                "type": _TEXT,
                "code": {"type": ["string", "null"]},
                "param": {"type": ["string", "null"]},
            },
        }
    },
}
_ANTHROPIC_ERROR: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["type", "error", "request_id"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message", "details"],
            "properties": {"type": _TEXT, "message": _TEXT, "details": {"type": "object"}},
        },
        "request_id": _TEXT,
    },
}
_WINDOW: Final = {
    "type": "object",
    "required": ["id", "opened_at", "resets_at"],
    "properties": {
        "id": {"type": "integer"},
        "opened_at": _TIME,
        "resets_at": _TIME,
        "closed_at": {"type": ["string", "null"], "format": "date-time"},
        "spent_usd": _MONEY,
        "reserved_usd": _MONEY,
        "request_count": {"type": "integer"},
    },
}
_BUDGET: Final = {
    "type": "object",
    "required": [
        "state", "monthly_limit_usd", "current_spend_usd", "reserved_usd", "remaining_usd", "usage_ratio",
        "request_count", "by_provider", "by_model", "window", "forecast",
    ],
    "properties": {
        "state": {"enum": ["CLOSED", "HALF_OPEN", "OPEN"]},
        "monthly_limit_usd": _MONEY,
        "current_spend_usd": _MONEY,
        "reserved_usd": _MONEY,
        "remaining_usd": _MONEY,
        "usage_ratio": {"type": "number"},
        "request_count": {"type": "integer"},
        "by_provider": {"type": "object", "additionalProperties": _MONEY},
        "by_model": {"type": "object", "additionalProperties": _MONEY},
        "window": _WINDOW,
        "forecast": {
            "type": "object",
            "required": ["month_end_usd", "exhausted_at"],
            "properties": {
                "month_end_usd": {"type": ["number", "null"], "description": "USD; null: too little data yet"},
                "exhausted_at": {"type": ["string", "null"], "format": "date-time"},
            },
        },
    },
}  # fmt: skip
_OBJECT: Final = {"type": "object"}
_HEALTH: Final = {
    "type": "object",
    "required": ["status", "database", "version"],
    "properties": {"status": {"const": "ok"}, "database": {"const": "ok"}, "version": _TEXT},
}
_NO_HEALTH: Final = {
    "type": "object",
    "description": "Not an error's body: what monitors read is where they read it at 200.",
    "required": ["status", "database", "version", "message"],
    "properties": {
        "status": {"const": "unavailable"},
        "database": {"const": "unreachable"},
        "version": _TEXT,
        "message": _TEXT,
    },
}
_MESSAGE: Final = {
    "type": "object",
    "description": "As Anthropic's API reference has it; `usage.cost` is the cost in USD.",
    "required": ["id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"],
    "properties": {
        "id": _TEXT,
        "type": {"const": "message"},
        "role": {"const": "assistant"},
        "model": _TEXT,
        "content": {"type": "array", "items": _OBJECT},
        "stop_reason": {"enum": ["end_turn", "max_tokens", "tool_use", "refusal"]},
        "stop_sequence": {"type": "null"},
        "usage": {"type": "object", "properties": {"cost": _MONEY}},
    },
}
_RESPONSE: Final = {
    "type": "object",
    "description": "As OpenAI's API reference has it; `usage.cost` is the cost in USD.",
    "required": ["id", "object", "created_at", "status", "model", "output", "usage"],
    "properties": {
        "id": _TEXT,
        "object": {"const": "response"},
        "created_at": {"type": "integer"},
        "status": {"enum": ["completed", "incomplete"]},
        "model": _TEXT,
        "output": {"type": "array", "items": _OBJECT},
        "usage": {"type": ["object", "null"], "properties": {"cost": _MONEY}},
    },
}

_STATUSES: Final = {
    400: "The request can't be understood or honoured; `param` names the field.",
    402: "The budget is used up, or the call's worst case doesn't fit it. Stop; the body says when it resets.",
    404: "There is no such model.",
    413: "The body is too large.",
    429: "Calls in flight hold the rest of the budget, or the key's minute is used up. Wait for `Retry-After`.",
    500: "Something failed inside the gateway.",
    502: "The function crashed.",
    503: "Every provider failed, none may serve this, or the ledger can't be reached.",
    504: "Out of time.",
}
_ERROR_CONTENT: Final = {"application/json": {"schema": {"$ref": _REF.format(model="Error")}}}
_MODEL_STATUSES: Final = (400, 402, 404, 413, 429, 500, 502, 503, 504)
_READ_STATUSES: Final = (500, 502, 503, 504)


def document() -> dict[str, Any]:
    """The whole document, ready for JSON."""
    bodies: list[type[BaseModel]] = [ChatRequest, MessagesRequest, ResponsesRequest, EmbeddingRequest, ResetRequest]
    bodies += KEY_BODIES
    answers: list[type[BaseModel]] = [ChatResponse, EmbeddingResponse]
    _, schemas = models_json_schema(
        [(model, "validation") for model in bodies] + [(model, "serialization") for model in answers],
        ref_template=_REF,
    )
    chat = _post("complete", "Chat completion", ChatRequest, _ref(ChatResponse), _MODEL_STATUSES)
    messages = _post("messages", "A message, in Anthropic's format", MessagesRequest, _MESSAGE, _MODEL_STATUSES)
    for status in _MODEL_STATUSES:
        messages["responses"][str(status)]["content"] = {"application/json": {"schema": _ref("AnthropicError")}}
    responses = _post("responses", "OpenAI's Responses, stateless", ResponsesRequest, _RESPONSE, _MODEL_STATUSES)
    for door in (chat, messages, responses):
        door["responses"]["200"]["content"]["text/event-stream"] = {"schema": _EVENTS}
        door["parameters"] = [
            {
                "name": "x-fusewire-classification",
                "in": "header",
                "schema": {"enum": ["public", "internal", "confidential"], "default": "internal"},
            }
        ]
    embed = _post("embed", "Embeddings", EmbeddingRequest, _ref(EmbeddingResponse), _MODEL_STATUSES)
    embed["parameters"] = chat["parameters"]
    providers = _get("showProviders", "Every provider's configuration and health", _OBJECT, (400, *_READ_STATUSES))
    providers["parameters"] = [{"name": "probe", "in": "query", "schema": {"type": "boolean", "default": False}}]
    reset_answer = {
        "type": "object",
        "required": ["closed", "opened"],
        "properties": {"closed": _WINDOW, "opened": _WINDOW},
    }
    reset = _post(
        "resetBudget",
        "Close the open window and open the next",
        ResetRequest,
        reset_answer,
        (400, 413, *_READ_STATUSES),
    )
    reset["requestBody"]["required"] = False
    health = _get("health", "Database and version", _HEALTH)
    health["responses"]["503"] = {
        "description": "The ledger can't be reached, or the gateway before the function is busy or stopping.",
        "content": {"application/json": {"schema": {"anyOf": [_NO_HEALTH, _ref("Error")]}}},
    }
    paths = {
        "/api/v1/chat/completions": {"post": chat},
        "/api/v1/messages": {"post": messages},
        "/api/v1/responses": {"post": responses},
        "/api/v1/embeddings": {"post": embed},
        "/api/v1/models": {
            "get": _get("listModels", "Tiers and models that the caller may ask for, with prices", _OBJECT)
        },
        "/api/v1/admin/budget": {"get": _get("showBudget", "The month's budget", _BUDGET)},
        "/api/v1/admin/budget/reset": {"post": reset},
        "/api/v1/admin/providers": {"get": providers},
        **report_paths(_get, _READ_STATUSES),
        **key_paths(_get, _post, reset_answer, _READ_STATUSES),
        "/api/v1/health": {"get": health},
        "/api/v1/openapi.json": {"get": _get("openapi", "This document", _OBJECT)},
    }
    screen(paths, _ref("Error"), _ref("AnthropicError"))
    guard(paths, _ref("Error"), _ref("AnthropicError"))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "fusewire",
            "version": VERSION,
            "description": "An AI gateway whose budget cannot be overrun.",
        },
        "servers": [{"url": "/"}],
        "security": SECURITY,
        "paths": paths,
        "components": {
            "schemas": {**schemas.get("$defs", {}), "Error": _ERROR, "AnthropicError": _ANTHROPIC_ERROR},
            "securitySchemes": SECURITY_SCHEMES,
        },
    }


def _get(
    operation: str, summary: str, answer: dict[str, Any], statuses: tuple[int, ...] = _READ_STATUSES
) -> dict[str, Any]:
    return {"operationId": operation, "summary": summary, "responses": _responses(answer, statuses)}


def _post(
    operation: str, summary: str, body: type[BaseModel], answer: dict[str, Any], statuses: tuple[int, ...]
) -> dict[str, Any]:
    content = {"application/json": {"schema": _ref(body)}}
    return _get(operation, summary, answer, statuses) | {"requestBody": {"required": True, "content": content}}


def _responses(answer: dict[str, Any], statuses: tuple[int, ...]) -> dict[str, Any]:
    responses: dict[str, Any] = {
        "200": {"description": "As asked.", "content": {"application/json": {"schema": answer}}}
    }
    return responses | {str(s): {"description": _STATUSES[s], "content": _ERROR_CONTENT} for s in statuses}


def _ref(model: type[BaseModel] | str) -> dict[str, Any]:
    return {"$ref": _REF.format(model=model if isinstance(model, str) else model.__name__)}
