"""/api/v1/admin/keys: makes, shows, changes, rotates, resets and revokes the keys that callers have."""

from typing import Any

from aws_lambda_powertools.event_handler import Response

from fusewire.http.budget import ResetRequest
from fusewire.http.invocation import LambdaContext
from fusewire.http.keys import (
    CreateKeyRequest,
    KeysQuery,
    RotateKeyRequest,
    UpdateKeyRequest,
    key_body,
    key_forecast,
    keys_body,
)
from fusewire.http.resolver import Resolver, StreamedAnswer, json_response
from fusewire.services import services

_core = services()
app = Resolver(_core.settings)


@app.get("/api/v1/admin/keys")
def list_keys() -> Response[str]:
    app.require("admin")
    return json_response(200, keys_body(_core.keys, app.query(KeysQuery)))


@app.post("/api/v1/admin/keys")
def create_key() -> Response[str]:
    app.require("admin")
    return json_response(201, key_body(*_core.keys.create(app.body(CreateKeyRequest).given(), app.act)))


@app.get("/api/v1/admin/keys/<id>")
def show_key(id: str) -> Response[str]:
    app.require("admin")
    key = _core.keys.show(id)
    return json_response(200, key_body(key) | {"forecast": key_forecast(key, _core.settings)})


@app.patch("/api/v1/admin/keys/<id>")
def update_key(id: str) -> Response[str]:
    app.require("admin")
    return json_response(200, key_body(_core.keys.update(id, app.body(UpdateKeyRequest).given(), app.act)))


@app.delete("/api/v1/admin/keys/<id>")
def revoke_key(id: str) -> Response[str]:
    app.require("admin")
    return json_response(200, key_body(_core.keys.revoke(id, app.act)))


@app.post("/api/v1/admin/keys/<id>/rotate")
def rotate_key(id: str) -> Response[str]:
    app.require("admin")
    overlap = app.body(RotateKeyRequest).overlap_seconds
    return json_response(200, key_body(*_core.keys.rotate(id, overlap, app.act)))


@app.post("/api/v1/admin/keys/<id>/reset")
def reset_key(id: str) -> Response[str]:
    app.require("admin")
    request, act = app.body(ResetRequest, empty="{}"), app.act
    closed, opened = _core.ledger.reset(
        actor=act.actor,
        source_ip=act.source_ip,
        request_id=act.request_id,
        reason=request.reason,
        budget=_core.keys.show(id).id,
    )
    return json_response(200, {"closed": closed.public(), "opened": opened.public()})


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any] | StreamedAnswer:
    return app.serve(event, context)
