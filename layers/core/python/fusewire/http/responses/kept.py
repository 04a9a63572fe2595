"""Earlier responses as a part of a request: `previous_response_id` and `item_reference`, where answers are kept.

An answer is kept with what was asked, unless `store` is false or the call is confidential, and only the key that made
it finds it. An item's id holds its response's, so that a reference says where to look.
Source: OpenAI's guide "Conversation state"; the refusals' form as in can1357/oh-my-pi#41 and Soju06/codex-lb#853.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, Literal

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from fusewire import logs
from fusewire.errors import LedgerUnavailableError, ResponseNotFoundError
from fusewire.http.request import Request
from fusewire.http.responses.input_items import InputMessage, Item, ItemReference
from fusewire.http.responses.request import ResponsesRequest
from fusewire.json import dumps
from fusewire.store.kept_responses import Content, KeptResponse, KeptResponses

RESPONSE: Final = "resp"
Items = list[Any]


class DeletedResponse(TypedDict):
    """As OpenAI's API reference has it."""

    id: str
    object: Literal["response.deleted"]
    deleted: Literal[True]


def response_id(unique: str) -> str:
    """:param unique: what all ids of one answer have in common"""
    return f"{RESPONSE}_{unique}"


def item_id(kind: str, unique: str, number: int) -> str:
    """
    :param kind: such as `msg`
    :param number: the item's place in the answer
    """
    return f"{kind}_{unique}_{number}"


def _response_of(item: str) -> str:
    """The id of the response that an item is of."""
    return response_id(item.partition("_")[2].rpartition("_")[0])


class Conversation:
    """One request with what it refers to, and the place where its answer is kept."""

    def __init__(self, request: Request, body: ResponsesRequest, kept: KeptResponses) -> None:
        """
        :raises ResponseNotFoundError: for an item that isn't kept
        :raises PreviousResponseNotFoundError: for a response that isn't kept
        :raises LedgerUnavailableError: when Postgres can't be reached
        """
        self._kept = kept
        self._owner = request.identity.key_id or ""
        self.previous_id = body.previous_response_id
        is_enabled = kept.is_enabled
        self.is_kept = is_enabled and body.store is not False and request.caller().classification != "confidential"
        """Whether the answer is to be kept."""
        self._own_items = body.input if isinstance(body.input, list) else []
        self.body = self._put_together(body) if is_enabled else body
        """The request, with the earlier items in the references' place."""

    def keep(self, response: Mapping[str, Any]) -> bool:
        """Keep the answer, so that the caller's next request finds it.

        :return: whether it is kept; an answer is worth more than its being kept
        """
        if not self.is_kept:
            return False
        content = {"input": _dumped(self._own_items), "response": response}
        try:
            self._kept.keep(self._owner, response["id"], self.previous_id, content)
        except LedgerUnavailableError as error:
            cause = error.__cause__
            logs.event("responses.not_kept", logging.WARNING, reason=type(cause).__name__ if cause else error.code)
            return False
        return True

    def _put_together(self, body: ResponsesRequest) -> ResponsesRequest:
        if isinstance(body.input, str):
            self._own_items = [InputMessage(type="message", role="user", content=body.input)]
        references = [item for item in self._own_items if isinstance(item, ItemReference)]
        if self.previous_id is None and not references:
            return body
        ids = list(dict.fromkeys(_response_of(item.id) for item in references))
        chain, others = self._kept.read(self._owner, last=self.previous_id, ids=ids)
        if references:
            self._own_items = [*_resolved(self._own_items, others)]
        earlier = _items([item for response in chain for item in _of(response.content)])
        return body.model_copy(update={"input": [*earlier, *self._own_items], "previous_response_id": None})


def find(kept: KeptResponses, request: Request, id: str) -> KeptResponse:
    """:raises ResponseNotFoundError: where the key has no such response"""
    found = kept.read(request.identity.key_id or "", ids=[id])[1].get(id) if kept.is_enabled else None
    if found is None:
        raise _not_found(id)
    return found


def delete(kept: KeptResponses, request: Request, id: str) -> DeletedResponse:
    """:raises ResponseNotFoundError: where the key has no such response"""
    # Whatever the setting says by now: what was kept before can still be deleted.
    if not kept.delete(request.identity.key_id or "", id):
        raise _not_found(id)
    return {"id": id, "object": "response.deleted", "deleted": True}


def _not_found(id: str) -> ResponseNotFoundError:
    return ResponseNotFoundError(f"Response with id '{id[:100]}' not found.")


def _resolved(items: Sequence[Item], responses: Mapping[str, KeptResponse]) -> Iterator[Item]:
    outputs = {item["id"]: item for response in responses.values() for item in response.content["response"]["output"]}
    for number, item in enumerate(items):
        if not isinstance(item, ItemReference):
            yield item
        elif item.id in outputs:
            yield from _items([outputs[item.id]])
        else:
            raise ResponseNotFoundError(
                f"Item with id '{item.id[:100]}' not found. It has expired, was deleted, is another key's, or was not "
                "stored: send the item itself.",
                param=f"input[{number}]",
            )


def _of(content: Content) -> Items:
    """The items of a kept response: what was asked, and the answer."""
    return [*content["input"], *content["response"]["output"]]


@cache
def _adapter() -> TypeAdapter[list[Item]]:
    return TypeAdapter(list[Item])


def _items(found: Items) -> list[Item]:
    return _adapter().validate_json(dumps(found).encode(errors="backslashreplace"))


def _dumped(items: Sequence[Item]) -> list[object]:
    return [item.model_dump(mode="json", by_alias=True, exclude_unset=True) for item in items]
