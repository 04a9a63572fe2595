"""Every route of the HTTP API, declared once. A parameter `{name+}` may hold slashes, as in API Gateway.

`functions/*/app.py` register a handler for each (`Resolver.handles`), the authorizer reads who may call it, and the
OpenAPI document is made of all of them. `make docs` writes their events into `infra/template.yaml` and `events/`.
"""

from typing import Final

from fusewire.http.route import Route

_CALL: Final = (400, 402, 404, 413, 429)
_NO_MODEL: Final = "There is no such model."
_EVENTS: Final = "text/event-stream"

CHAT: Final = Route(
    "POST",
    "/api/v1/chat/completions",
    "complete",
    "Chat completion",
    "complete",
    body="ai.schema:ChatRequest",
    response="ai.schema:ChatResponse",
    errors=_CALL,
    not_found=_NO_MODEL,
    also=_EVENTS,
    makes_calls=True,
    is_vendors=True,
)
MESSAGES: Final = Route(
    "POST",
    "/api/v1/messages",
    "messages",
    "A message, in Anthropic's format",
    "complete",
    body="http.messages.request:MessagesRequest",
    response="http.messages.render:AnthropicMessage",
    errors=_CALL,
    not_found=_NO_MODEL,
    also=_EVENTS,
    makes_calls=True,
    error_format="anthropic",
    render_error="http.messages.errors:render_error",
    is_vendors=True,
)
COUNT_TOKENS: Final = Route(
    "POST",
    "/api/v1/messages/count_tokens",
    "countTokens",
    "A message's input tokens, in Anthropic's format; free",
    "complete",
    body="http.messages.request:PromptRequest",
    response="http.messages.render:AnthropicTokenCount",
    errors=(400, 404, 413, 429),
    not_found=_NO_MODEL,
    error_format="anthropic",
    render_error="http.messages.errors:render_error",
    is_vendors=True,
)
RESPONSES: Final = Route(
    "POST",
    "/api/v1/responses",
    "responses",
    "OpenAI's Responses",
    "complete",
    body="http.responses.request:ResponsesRequest",
    response="http.responses.render:ResponseObject",
    errors=_CALL,
    not_found=_NO_MODEL,
    also=_EVENTS,
    makes_calls=True,
    render_error="http.responses.render:render_error",
    is_vendors=True,
)
_NO_RESPONSE: Final = "The key has no such response."
SHOW_RESPONSE: Final = Route(
    "GET",
    "/api/v1/responses/{id}",
    "showResponse",
    "A response that is kept",
    "complete",
    response="http.responses.render:ResponseObject",
    errors=(404,),
    not_found=_NO_RESPONSE,
    render_error="http.responses.render:render_error",
    is_vendors=True,
)
DELETE_RESPONSE: Final = Route(
    "DELETE",
    "/api/v1/responses/{id}",
    "deleteResponse",
    "Keep a response no longer",
    "complete",
    response="http.responses.kept:DeletedResponse",
    errors=(404,),
    not_found=_NO_RESPONSE,
    render_error="http.responses.render:render_error",
    is_vendors=True,
)
EMBEDDINGS: Final = Route(
    "POST",
    "/api/v1/embeddings",
    "embed",
    "Embeddings",
    "complete",
    body="ai.schema:EmbeddingRequest",
    max_values=400_000,  # OpenAI takes 300,000 tokens at once, which may come as numbers
    response="ai.schema:EmbeddingResponse",
    errors=_CALL,
    not_found=_NO_MODEL,
    makes_calls=True,
    is_vendors=True,
)
LIST_MODELS: Final = Route(
    "GET",
    "/api/v1/models",
    "listModels",
    "Tiers and models that the caller may ask for, with prices",
    "any_key",
    response="http.models:ModelList",
    is_vendors=True,
)
SHOW_MODEL: Final = Route(
    "GET",
    "/api/v1/models/{id+}",
    "showModel",
    "A tier, a model or an alias that the caller may ask for",
    "any_key",
    response="http.models:ListedResponse",
    errors=(404,),
    not_found=_NO_MODEL,
    is_vendors=True,
)
ME: Final = Route(
    "GET",
    "/api/v1/me",
    "me",
    "What the caller's key may do and has spent",
    "any_key",
    response="http.me:MeResponse",
)
MY_USAGE: Final = Route(
    "GET",
    "/api/v1/me/usage",
    "myUsage",
    "What the caller's own calls came to, by groups",
    "any_key",
    query="http.admin.usage:OwnUsageQuery",
    response="http.admin.usage:UsageOfDays",
    errors=(400,),
)
SHOW_BUDGET: Final = Route(
    "GET",
    "/api/v1/admin/budget",
    "showBudget",
    "The month's budget",
    "company_read",
    response="http.admin.budget:BudgetResponse",
)
SET_LIMIT: Final = Route(
    "PATCH",
    "/api/v1/admin/budget",
    "setBudgetLimit",
    "Set the month's limit for the open window or for good, or take it back",
    "company_admin",
    body="http.admin.budget:LimitRequest",
    response="http.admin.budget:ChangedLimitResponse",
    errors=(400, 413),
)
RESET_BUDGET: Final = Route(
    "POST",
    "/api/v1/admin/budget/reset",
    "resetBudget",
    "Close the open window and open the next",
    "company_admin",
    body="http.admin.budget:ResetRequest",
    empty_body=True,
    response="http.admin.budget:ResetResponse",
    errors=(400, 413),
)
LIST_ADJUSTMENTS: Final = Route(
    "GET",
    "/api/v1/admin/budget/adjustments",
    "listAdjustments",
    "Adjustments of the company's windows, the newest first",
    "company_read",
    query="http.admin.budget:AdjustmentsQuery",
    response="http.admin.budget:AdjustmentPage",
    errors=(400,),
)
ADJUST_BUDGET: Final = Route(
    "POST",
    "/api/v1/admin/budget/adjustments",
    "adjustBudget",
    "Book what a restore lost, or what an invoice says beside the books",
    "company_admin",
    body="http.admin.budget:AdjustmentRequest",
    response="http.admin.budget:AdjustedResponse",
    status=201,
    errors=(400, 413),
)
_NO_BUDGET: Final = "There is no such budget."
LIST_BUDGETS: Final = Route(
    "GET",
    "/api/v1/admin/budgets",
    "listBudgets",
    "The budgets below the company's, the oldest first",
    "read",
    query="http.admin.tree:NodesQuery",
    response="http.admin.tree:NodePage",
    errors=(400,),
)
CREATE_BUDGET: Final = Route(
    "POST",
    "/api/v1/admin/budgets",
    "createBudget",
    "A new budget below the company's or below another",
    "admin",
    body="http.admin.tree:CreateNodeRequest",
    response="http.admin.tree:NodeResponse",
    status=201,
    errors=(400, 413),
)
SHOW_BUDGET_NODE: Final = Route(
    "GET",
    "/api/v1/admin/budgets/{id}",
    "showBudgetNode",
    "A budget below the company's, and its forecast",
    "read",
    response="http.admin.tree:NodeResponse",
    errors=(404,),
    not_found=_NO_BUDGET,
)
UPDATE_BUDGET: Final = Route(
    "PATCH",
    "/api/v1/admin/budgets/{id}",
    "updateBudget",
    "Change the fields that are sent",
    "admin",
    body="http.admin.tree:UpdateNodeRequest",
    response="http.admin.tree:NodeResponse",
    errors=(400, 404, 413),
    not_found=_NO_BUDGET,
)
DELETE_BUDGET: Final = Route(
    "DELETE",
    "/api/v1/admin/budgets/{id}",
    "deleteBudget",
    "End a budget that has neither budgets nor keys below it; the answer is what it was",
    "admin",
    response="http.admin.tree:NodeResponse",
    errors=(400, 404),
    not_found=_NO_BUDGET,
)
RESET_BUDGET_NODE: Final = Route(
    "POST",
    "/api/v1/admin/budgets/{id}/reset",
    "resetBudgetNode",
    "Close the budget's window and open the next",
    "admin",
    body="http.admin.budget:ResetRequest",
    empty_body=True,
    response="http.admin.budget:ResetResponse",
    errors=(400, 404, 413),
    not_found=_NO_BUDGET,
)
SHOW_PROVIDERS: Final = Route(
    "GET",
    "/api/v1/admin/providers",
    "showProviders",
    "Every provider's configuration and health",
    "company_read",
    query="http.admin.providers:ProvidersQuery",
    response="http.admin.providers:ProvidersResponse",
    errors=(400,),
)
SHOW_USAGE: Final = Route(
    "GET",
    "/api/v1/admin/usage",
    "showUsage",
    "Spend by groups",
    "read",
    query="http.admin.usage:UsageQuery",
    response="http.admin.usage:UsageResponse",
    errors=(400,),
    also="text/csv",
)
LIST_CALLS: Final = Route(
    "GET",
    "/api/v1/admin/calls",
    "listCalls",
    "Attempts, the newest first",
    "read",
    query="http.admin.calls:CallsQuery",
    response="http.admin.calls:CallPage",
    errors=(400,),
)
SHOW_CALL: Final = Route(
    "GET",
    "/api/v1/admin/calls/{request_id}",
    "showCall",
    "Every attempt of one call",
    "read",
    response="http.admin.calls:CallResponse",
    errors=(404,),
    not_found="The ledger has no such call.",
)
LIST_AUDIT: Final = Route(
    "GET",
    "/api/v1/admin/audit",
    "listAudit",
    "Audit entries, the newest first",
    "read",
    query="http.admin.calls:AuditQuery",
    response="http.admin.calls:AuditPage",
    errors=(400,),
)
_NO_PRICE: Final = "No administrator set such a price."
LIST_PRICES: Final = Route(
    "GET",
    "/api/v1/admin/prices",
    "listPrices",
    "Prices that administrators set, the newest first",
    "company_read",
    query="http.admin.prices:PricesQuery",
    response="http.admin.prices:PricePage",
    errors=(400,),
)
ADD_PRICE: Final = Route(
    "POST",
    "/api/v1/admin/prices",
    "addPrice",
    "A price from now or from a time on, or one that is only staged",
    "company_admin",
    body="http.admin.prices:AddPriceRequest",
    response="http.admin.prices:PriceResponse",
    status=201,
    errors=(400, 413),
)
APPLY_PRICE: Final = Route(
    "POST",
    "/api/v1/admin/prices/{id}",
    "applyPrice",
    "Put a staged price in force",
    "company_admin",
    body="http.admin.prices:ApplyPriceRequest",
    empty_body=True,
    response="http.admin.prices:PriceResponse",
    errors=(400, 404, 413),
    not_found=_NO_PRICE,
)
REMOVE_PRICE: Final = Route(
    "DELETE",
    "/api/v1/admin/prices/{id}",
    "removePrice",
    "End a price; the one before it counts again",
    "company_admin",
    response="http.admin.prices:PriceResponse",
    errors=(400, 404),
    not_found=_NO_PRICE,
)
LIST_ALLOWANCES: Final = Route(
    "GET",
    "/api/v1/admin/allowances",
    "listAllowances",
    "What models' servers add to prompts, where a usage has shown more than was allowed",
    "company_read",
    query="http.admin.allowances:AllowancesQuery",
    response="http.admin.allowances:AllowancePage",
    errors=(400,),
)
REMOVE_ALLOWANCE: Final = Route(
    "DELETE",
    "/api/v1/admin/allowances/{id+}",
    "removeAllowance",
    "Take a raised allowance back; the answer is what it was",
    "company_admin",
    response="http.admin.allowances:AllowanceResponse",
    errors=(404,),
    not_found="No usage has raised the allowance of such a model.",
)
_NO_KEY: Final = "There is no such key."
LIST_KEYS: Final = Route(
    "GET",
    "/api/v1/admin/keys",
    "listKeys",
    "Keys, the newest first",
    "read",
    query="http.admin.keys:KeysQuery",
    response="http.admin.keys:KeyPage",
    errors=(400,),
)
CREATE_KEY: Final = Route(
    "POST",
    "/api/v1/admin/keys",
    "createKey",
    "A new key",
    "admin",
    body="http.admin.keys:CreateKeyRequest",
    response="http.admin.keys:KeyWithSecret",
    status=201,
    errors=(400, 413),
)
SHOW_KEY: Final = Route(
    "GET",
    "/api/v1/admin/keys/{id}",
    "showKey",
    "A key, its budget and its forecast",
    "read",
    response="http.admin.keys:KeyWithForecast",
    errors=(404,),
    not_found=_NO_KEY,
)
UPDATE_KEY: Final = Route(
    "PATCH",
    "/api/v1/admin/keys/{id}",
    "updateKey",
    "Change the fields that are sent",
    "admin",
    body="http.admin.keys:UpdateKeyRequest",
    response="http.admin.keys:KeyResponse",
    errors=(400, 404, 413),
    not_found=_NO_KEY,
)
REVOKE_KEY: Final = Route(
    "DELETE",
    "/api/v1/admin/keys/{id}",
    "revokeKey",
    "End a key for good; the answer is what it was",
    "admin",
    response="http.admin.keys:KeyResponse",
    errors=(404,),
    not_found=_NO_KEY,
)
ROTATE_KEY: Final = Route(
    "POST",
    "/api/v1/admin/keys/{id}/rotate",
    "rotateKey",
    "A second secret, which replaces the first",
    "admin",
    body="http.admin.keys:RotateKeyRequest",
    response="http.admin.keys:KeyWithSecret",
    errors=(400, 404, 413),
    not_found=_NO_KEY,
)
RESET_KEY: Final = Route(
    "POST",
    "/api/v1/admin/keys/{id}/reset",
    "resetKey",
    "Close the key's window and open the next",
    "admin",
    body="http.admin.budget:ResetRequest",
    empty_body=True,
    response="http.admin.budget:ResetResponse",
    errors=(400, 404, 413),
    not_found=_NO_KEY,
)
HEALTH: Final = Route(
    "GET",
    "/api/v1/health",
    "health",
    "Database and version",
    "everybody",
    response="http.health:Health",
    unavailable="http.health:Unavailable",
)
OPENAPI: Final = Route(
    "GET",
    "/api/v1/openapi.json",
    "openapi",
    "This document",
    "everybody",
    response="http.schema:AnyObject",
)

ROUTES: Final[tuple[Route, ...]] = tuple(each for each in list(globals().values()) if isinstance(each, Route))
