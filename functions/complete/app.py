"""POST /api/v1/chat/completions, /messages and /responses: an answer from the first provider that can give one, as JSON
or as a stream, in the caller's format. POST /api/v1/messages/count_tokens: what goes into a message, counted. GET and
DELETE /api/v1/responses/{id}: one that is kept."""

from typing import TYPE_CHECKING, Any

from aws_lambda_powertools.event_handler import Response

from fusewire.ai.schema import ChatRequest, ChatResponse, StreamChunk
from fusewire.errors import BudgetExceededError
from fusewire.http import routes
from fusewire.http.answer import answer
from fusewire.http.app import Resolver, StreamingResponse, json_response
from fusewire.http.chat.render import chat_format
from fusewire.http.invocation import LambdaContext
from fusewire.http.request import Request
from fusewire.services import services

if TYPE_CHECKING:
    from fusewire.http.messages.request import MessagesRequest, PromptRequest
    from fusewire.http.responses.request import ResponsesRequest

# What the first call needs is compiled before it; the schema's other models are compiled by their first use.
for model in (ChatRequest, ChatResponse, StreamChunk):
    model.model_rebuild()

_core = services()
app = Resolver(_core.settings, _core.key_checks)


@app.handles(routes.CHAT)
def complete(request: Request, body: ChatRequest) -> Response[Any]:
    return answer(_core.router, request, chat_format(body))


@app.handles(routes.MESSAGES)
def messages(request: Request, body: "MessagesRequest") -> Response[Any]:
    # Here, because most cold starts never need the other formats.
    from fusewire.http.messages.render import messages_format

    return answer(_core.router, request, messages_format(request, body, _core.registry))


@app.handles(routes.COUNT_TOKENS)
def count_tokens(request: Request, body: "PromptRequest") -> Response[Any]:
    from fusewire.http.messages.token_counts import count

    return count(request, body, _core.tiers, _core.registry, _core.key_checks)


@app.handles(routes.RESPONSES)
def responses(request: Request, body: "ResponsesRequest") -> Response[Any]:
    from fusewire.http.responses.codex import is_codex, usage_limit
    from fusewire.http.responses.render import responses_format

    try:
        return answer(_core.router, request, responses_format(request, body, _core.kept_responses))
    except BudgetExceededError as error:
        if not is_codex(request):
            raise
        return json_response(*usage_limit(error, request.id))


@app.handles(routes.SHOW_RESPONSE)
def show_response(request: Request, id: str) -> Response[Any]:
    from fusewire.http.responses.kept import find

    return json_response(200, find(_core.kept_responses, request, id).content["response"])


@app.handles(routes.DELETE_RESPONSE)
def delete_response(request: Request, id: str) -> Response[Any]:
    from fusewire.http.responses.kept import delete

    return json_response(200, delete(_core.kept_responses, request, id))


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any] | StreamingResponse:
    return app.serve(event, context)
