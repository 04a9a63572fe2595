"""The OpenAPI entries of `functions/admin_usage`: their parameters are those of the models that check them."""

from collections.abc import Callable
from typing import Any, Final

from fusewire.http.calls import AuditQuery, CallsQuery
from fusewire.http.query import Query
from fusewire.http.usage import UsageQuery

_Get = Callable[[str, str, dict[str, Any], tuple[int, ...]], dict[str, Any]]

_MONEY: Final = {"type": "number", "description": "USD, exact"}
_COUNT: Final = {"type": "integer"}
_TEXT: Final = {"type": "string"}
_CURSOR: Final = {"type": ["string", "null"]}
_TIME: Final = {"type": "string", "format": "date-time"}
_LATER: Final = {"type": ["string", "null"], "format": "date-time"}
_PERHAPS: Final = {"type": ["string", "null"]}

_SUMS: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["cost_usd", "requests", "input_tokens", "output_tokens"],
    "properties": {"cost_usd": _MONEY, "requests": _COUNT, "input_tokens": _COUNT, "output_tokens": _COUNT},
}
_USAGE: Final = {
    "type": "object",
    "required": ["rows", "total", "next_cursor"],
    "properties": {
        "rows": {
            "type": "array",
            "items": _SUMS | {"additionalProperties": _PERHAPS, "description": "By each group its value, or null."},
        },
        "total": _SUMS,
        "next_cursor": _CURSOR,
        "from": {"type": ["string", "null"], "format": "date"},
        "to": {"type": ["string", "null"], "format": "date"},
        "windows": {"type": "array", "items": {"type": "object"}},
    },
}
_ATTEMPT: Final = {
    "type": "object",
    "required": ["id", "request_id", "attempt", "provider", "model", "status", "bound_usd", "cost_usd", "cost_basis"],
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "request_id": _TEXT,
        "attempt": _COUNT,
        "operation": {"enum": ["chat", "embedding", "probe"]},
        "provider": _TEXT,
        "model": _TEXT,
        "tier": _PERHAPS,
        "key_id": _PERHAPS,
        "status": {"enum": ["reserved", "settled", "released"]},
        "outcome": _PERHAPS,
        "bound_usd": _MONEY,
        "cost_usd": {"type": ["number", "null"]},
        "cost_basis": {"enum": ["actual", "bound", None]},
        "input_tokens": _COUNT,
        "output_tokens": _COUNT,
        "cached_input_tokens": _COUNT,
        "cache_write_tokens": _COUNT,
        "reasoning_tokens": _COUNT,
        "reserved_at": _TIME,
        "expires_at": _TIME,
        "ended_at": _LATER,
        "day": {"type": ["string", "null"], "format": "date"},
        "window_id": _COUNT,
        "key_window_id": {"type": ["integer", "null"]},
    },
}
_CALL: Final = {
    "type": "object",
    "required": ["request_id", "cost_usd", "attempts"],
    "properties": {"request_id": _TEXT, "cost_usd": _MONEY, "attempts": {"type": "array", "items": _ATTEMPT}},
}
_ENTRY: Final = {
    "type": "object",
    "required": ["n", "at", "actor", "action", "source_ip", "request_id", "before", "after", "hash"],
    "properties": {
        "n": _COUNT,
        "at": _TIME,
        "actor": _TEXT,
        "action": _TEXT,
        "source_ip": _PERHAPS,
        "request_id": _PERHAPS,
        "hash": _TEXT,
    },
}


def report_paths(get: _Get, statuses: tuple[int, ...]) -> dict[str, Any]:
    """The paths with their operations.

    :param get: makes an operation of its id, summary, answer and the statuses of its errors
    :param statuses: of any read
    """
    refused = (400, *statuses)
    usage = get("showUsage", "Spend by groups", _USAGE, refused)
    usage["responses"]["200"]["content"]["text/csv"] = {"schema": _TEXT}
    call = get("showCall", "Every attempt of one call", _CALL, (404, *statuses))
    call["responses"]["404"]["description"] = "The ledger has no such call."
    return {
        "/api/v1/admin/usage": {"get": usage | {"parameters": _parameters(UsageQuery)}},
        "/api/v1/admin/calls": {
            "get": get("listCalls", "Attempts, the newest first", _page(_ATTEMPT), refused)
            | {"parameters": _parameters(CallsQuery)}
        },
        "/api/v1/admin/calls/{request_id}": {
            "get": call | {"parameters": [{"name": "request_id", "in": "path", "required": True, "schema": _TEXT}]}
        },
        "/api/v1/admin/audit": {
            "get": get("listAudit", "Audit entries, the newest first", _page(_ENTRY), refused)
            | {"parameters": _parameters(AuditQuery)}
        },
    }


def _page(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["rows", "next_cursor"],
        "properties": {"rows": {"type": "array", "items": row}, "next_cursor": _CURSOR},
    }


def _parameters(model: type[Query]) -> list[dict[str, Any]]:
    described = model.model_json_schema()
    return [_parameter(name, schema) for name, schema in described["properties"].items()]


def _parameter(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    # What is null in the model is left out of a query string.
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    told = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    shown = {key: value for key, value in told.items() if key != "title" and value != []}
    listed = {"style": "form", "explode": False} if shown.get("type") == "array" else {}
    return {"name": name, "in": "query", "schema": shown} | listed
