"""GET /api/v1/models and /models/{id}: OpenAI's list of what the caller may ask for: tiers, models, their prices, and
aliases. GET /api/v1/me and /me/usage: what the caller's key may do and has spent."""

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from fusewire.ai.catalogue import catalogue, find
from fusewire.http import routes
from fusewire.http.app import Resolver, StreamingResponse
from fusewire.http.invocation import LambdaContext
from fusewire.http.models import ListedResponse, ModelList, model_entry, model_list
from fusewire.http.request import Request
from fusewire.services import services

if TYPE_CHECKING:
    from fusewire.http.admin.usage import OwnUsageQuery, UsageOfDays
    from fusewire.http.me import MeResponse

_core = services()
app = Resolver(_core.settings, _core.key_checks)


@app.handles(routes.LIST_MODELS)
def list_models(request: Request) -> ModelList:
    _core.prices.use(_core.price_history.table())
    return model_list(catalogue(_core.registry, _core.tiers, _core.prices, request.identity.permissions))


@app.handles(routes.SHOW_MODEL)
def show_model(request: Request, id: str) -> ListedResponse:
    # OpenAI's SDKs write the slash of a model's name as %2F.
    name, permissions = unquote(id), request.identity.permissions
    found = find(catalogue(_core.registry, _core.tiers, _core.prices, permissions), name)
    if found is None:
        raise _core.tiers.not_found(name, permissions)
    return model_entry(found)


@app.handles(routes.ME)
def me(request: Request) -> "MeResponse":
    # Here, because most cold starts never need the keys' models.
    from fusewire.http.me import me_response

    return me_response(_core.keys, request.identity, _core.settings.ai_budget_timezone)


@app.handles(routes.MY_USAGE)
def my_usage(request: Request, query: "OwnUsageQuery") -> "UsageOfDays":
    from fusewire.http.admin.usage import own_usage_response

    return own_usage_response(_core.books, query, request.identity.key_id)


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any] | StreamingResponse:
    return app.serve(event, context)
