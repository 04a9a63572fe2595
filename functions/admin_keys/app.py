"""/api/v1/admin/keys: makes, shows, changes, rotates, resets and revokes the keys that callers have."""

from typing import Any

from fusewire.core import core
from fusewire.http import routes
from fusewire.http.admin.budget import ResetRequest, ResetResponse, reset_response
from fusewire.http.admin.keys import (
    CreateKeyRequest,
    KeyPage,
    KeyResponse,
    KeysQuery,
    KeyWithForecast,
    KeyWithSecret,
    RotateKeyRequest,
    UpdateKeyRequest,
    key_forecast,
    key_page,
)
from fusewire.http.app import Resolver, StreamingResponse
from fusewire.http.invocation import LambdaContext
from fusewire.http.request import Request

_core = core()
app = Resolver(_core.settings, _core.key_checks)


@app.handles(routes.LIST_KEYS)
def list_keys(request: Request, query: KeysQuery) -> KeyPage:
    return key_page(_core.keys, query, request.within)


@app.handles(routes.CREATE_KEY)
def create_key(request: Request, body: CreateKeyRequest) -> KeyWithSecret:
    key, secret = _core.keys.create(body.attributes(), request.audit_context, within=request.within)
    return KeyWithSecret.of(key, key=secret)


@app.handles(routes.SHOW_KEY)
def show_key(request: Request, id: str) -> KeyWithForecast:
    key = _core.keys.show(id, within=request.within)
    return KeyWithForecast.of(key, forecast=key_forecast(key, _core.settings))


@app.handles(routes.UPDATE_KEY)
def update_key(request: Request, id: str, body: UpdateKeyRequest) -> KeyResponse:
    key = _core.keys.update(id, body.attributes(), request.audit_context, within=request.within)
    return KeyResponse.of(key)


@app.handles(routes.REVOKE_KEY)
def revoke_key(request: Request, id: str) -> KeyResponse:
    return KeyResponse.of(_core.keys.revoke(id, request.audit_context, within=request.within))


@app.handles(routes.ROTATE_KEY)
def rotate_key(request: Request, id: str, body: RotateKeyRequest) -> KeyWithSecret:
    key, secret = _core.keys.rotate(id, body.overlap_seconds, request.audit_context, within=request.within)
    return KeyWithSecret.of(key, key=secret)


@app.handles(routes.RESET_KEY)
def reset_key(request: Request, id: str, body: ResetRequest) -> ResetResponse:
    key = _core.keys.show(id, within=request.within)
    return reset_response(_core.ledger, request.audit_context, body, budget=key.id)


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any] | StreamingResponse:
    return app.serve(event, context)
