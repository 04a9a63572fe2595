"""POST /api/v1/embeddings: vectors, metered like completions."""

from typing import Any

from aws_lambda_powertools.event_handler import Response

import fusewire.ai.router  # noqa: F401 - at INIT, where Lambda gives a function a whole processor
from fusewire.ai.schema import EmbeddingRequest, EmbeddingResponse
from fusewire.http import routes
from fusewire.http.app import Resolver, StreamingResponse, json_response
from fusewire.http.headers import CallResult, call_headers
from fusewire.http.invocation import LambdaContext
from fusewire.http.request import Request
from fusewire.services import services

for model in (EmbeddingRequest, EmbeddingResponse):  # compiled before the first call
    model.model_rebuild()

_core = services()
app = Resolver(_core.settings, _core.key_checks)


@app.handles(routes.EMBEDDINGS)
def embed(request: Request, body: EmbeddingRequest) -> Response[Any]:
    response, served = _core.router.embed(body, request.caller())
    headers = call_headers(CallResult(served, request.identity.is_admin))
    return json_response(200, response.model_dump(exclude_unset=True), headers)


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any] | StreamingResponse:
    return app.serve(event, context)
