"""GET /api/v1/models: OpenAI's list of what the caller may ask for: tiers, models, and their prices."""

from typing import Any

from aws_lambda_powertools.event_handler import Response

from fusewire.ai.catalogue import models
from fusewire.http.invocation import LambdaContext
from fusewire.http.resolver import Resolver, StreamedAnswer, json_response
from fusewire.services import services

_core = services()
app = Resolver(_core.settings)


@app.get("/api/v1/models")
def list_models() -> Response[str]:
    app.require()
    listed = models(_core.registry, _core.tiers, _core.prices, app.identity.allowance)
    return json_response(200, {"object": "list", "data": listed})


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any] | StreamedAnswer:
    return app.serve(event, context)
