"""`POST /messages/count_tokens`: how many tokens a message would have, for nothing.

Source: Anthropic's API reference, "Count tokens in a Message".
"""

from typing import Any

from aws_lambda_powertools.event_handler import Response

from fusewire.ai.registry import Registry
from fusewire.ai.tiers import Tiers
from fusewire.ai.token_counts import count_tokens
from fusewire.budget.key_checks import BOOTSTRAP, KeyChecks
from fusewire.http.app import json_response
from fusewire.http.headers import ANTHROPIC_REQUEST_ID, token_count_headers
from fusewire.http.messages.request import PromptRequest
from fusewire.http.messages.translate import chat_request
from fusewire.http.request import Request


def count(request: Request, body: PromptRequest, tiers: Tiers, registry: Registry, keys: KeyChecks) -> Response[Any]:
    """The count, and by a header whose it is; it counts in the key's rate limit.

    :raises FusewireError: as for a call
    """
    chat, dropped = chat_request(body, registry)
    if (key_id := request.identity.key_id) is not None and key_id != BOOTSTRAP:
        keys.count_refused(key_id)
    counted = count_tokens(tiers, chat, request.caller(dropped))
    headers = token_count_headers(counted) | {ANTHROPIC_REQUEST_ID.name: request.id}
    return json_response(200, {"input_tokens": counted.tokens}, headers)
