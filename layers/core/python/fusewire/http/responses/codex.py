"""What OpenAI's Codex understands and other clients of Responses don't.

Codex tries again after every status but 400 and 429, a 402 included. It stops, and shows why and until when, where a
429 says that a usage limit is reached.
Source: openai/codex, `codex-rs/codex-api/src/api_bridge.rs` and `codex-rs/protocol/src/error.rs`.
"""

from fusewire.errors import BudgetExceededError
from fusewire.http.errors import Error
from fusewire.http.headers import codex_headers
from fusewire.http.request import Request
from fusewire.http.responses.render import render_error


def is_codex(request: Request) -> bool:
    """Whether Codex calls: its programs say so (`codex_exec`, `codex_cli_rs`, `codex_vscode`)."""
    return (request.header("originator") or "").lower().startswith("codex")


def usage_limit(error: BudgetExceededError, request_id: str) -> tuple[int, Error, dict[str, str]]:
    """A used-up budget as Codex knows it: status, body and headers."""
    body, _ = render_error(error, request_id)
    body["error"]["message"] = error.message  # without the words for a 402
    body["error"]["type"] = "usage_limit_reached"
    if error.resets_at is not None:
        body["error"]["resets_at"] = int(error.resets_at.timestamp())
    return 429, body, codex_headers(error)
