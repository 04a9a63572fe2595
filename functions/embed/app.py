"""POST /api/v1/embeddings: vectors, metered like completions."""

from typing import Any

from aws_lambda_powertools.event_handler import Response

from fusewire.ai.vocabulary import EmbeddingRequest
from fusewire.http.completions import caller_of, served_headers
from fusewire.http.invocation import LambdaContext
from fusewire.http.resolver import Resolver, StreamedAnswer, json_response
from fusewire.services import services

_MOST_VALUES = 400_000  # OpenAI takes 300,000 tokens at once, which may come as numbers
_core = services()
app = Resolver(_core.settings)


@app.post("/api/v1/embeddings")
def embed() -> Response[str]:
    app.require("complete")
    response, served = _core.router.embed(app.body(EmbeddingRequest, most_values=_MOST_VALUES), caller_of(app))
    return json_response(200, response.model_dump(exclude_unset=True), served_headers(served, app))


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any] | StreamedAnswer:
    return app.serve(event, context)
