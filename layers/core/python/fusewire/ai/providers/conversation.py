"""A conversation as a server of OpenAI's protocol takes it: what one vendor wrote, another may refuse.

Sources: OpenAI's API reference (an id of a call has 40 characters at most); vLLM's `mistral.py` (nine letters and
digits for Mistral's models); the chat templates of Qwen, Gemma and Mistral, of which many know neither a developer nor
a system's message behind the first, and no content in parts.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Literal

_JsonObject = dict[str, Any]
_INSTRUCTIONS: Final = ("system", "developer")
_MISTRAL: Final = re.compile(r"mi[sx]tral|devstral|ministral|codestral|magistral|pixtral", re.IGNORECASE)
MISTRAL_CALL_ID: Final = re.compile(r"[a-zA-Z0-9]{9}")


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a server takes."""

    call_id_length: int = 40
    call_id: re.Pattern[str] | None = None
    """What each call's id must be like, where its length isn't all."""
    one_system_message: bool = False
    """Whether it wants one system message, at the beginning, and knows no developer."""
    texts_as_strings: bool = False
    """Whether content of texts alone must be one string."""
    empty_content: Literal["left out", "null", "empty"] = "left out"
    """What stands for the content of an answer that holds tool calls alone."""


SELF_HOSTED: Final = Conversation(one_system_message=True, texts_as_strings=True, empty_content="empty")
"""A server whose chat templates are the models' own."""


def is_mistral(model: str) -> bool:
    """Whether the model is one of Mistral's, by its name."""
    return _MISTRAL.search(model) is not None


def fitted(messages: Iterable[_JsonObject], server: Conversation) -> list[_JsonObject]:
    """The messages, in OpenAI's form, as this server takes them. What is given isn't changed."""
    fitted = [dict(message) for message in messages]
    _name_calls(fitted, server)
    for message in fitted:
        if server.texts_as_strings and isinstance(message.get("content"), list):
            message["content"] = _joined(message["content"])
        if message.get("tool_calls") and message.get("content") is None and server.empty_content != "left out":
            message["content"] = "" if server.empty_content == "empty" else None
    return _with_one_system_message(fitted) if server.one_system_message else fitted


def _name_calls(messages: Iterable[_JsonObject], server: Conversation) -> None:
    rename = _renamer(server)
    for message in messages:
        if "tool_call_id" in message:
            message["tool_call_id"] = rename(message["tool_call_id"])
        if message.get("tool_calls"):
            # A client may leave the type out, and the index is a stream's.
            message["tool_calls"] = [
                {"type": "function", **{name: value for name, value in call.items() if name != "index"}}
                | {"id": rename(call["id"])}
                for call in message["tool_calls"]
            ]


def _renamer(server: Conversation) -> Callable[[str], str]:
    """From a call's id to one that the server takes. The same for the same id, turn after turn, as caches want it."""

    def rename(call_id: str) -> str:
        if server.call_id is not None:
            return call_id if server.call_id.fullmatch(call_id) else sha256(_bytes(call_id)).hexdigest()[:9]
        if len(call_id) <= server.call_id_length:
            return call_id
        return f"call_{sha256(_bytes(call_id)).hexdigest()}"[: server.call_id_length]

    return rename


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def _joined(parts: list[_JsonObject]) -> str | list[_JsonObject]:
    """One string where all parts are texts, as vLLM itself joins them."""
    texts = [text for part in parts if (text := part.get("text", part.get("refusal"))) is not None]
    return "\n".join(texts) if len(texts) == len(parts) else parts


def _with_one_system_message(messages: list[_JsonObject]) -> list[_JsonObject]:
    said = [message for message in messages if message["role"] in _INSTRUCTIONS]
    if not said:
        return messages
    others = [message for message in messages if message["role"] not in _INSTRUCTIONS]
    return [{"role": "system", "content": "\n\n".join(message["content"] for message in said)}, *others]
