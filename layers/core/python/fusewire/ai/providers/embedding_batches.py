"""Embeddings from vendors that take few texts at a time: several of their calls make one attempt.

An attempt is settled once. So the calls' tokens are added up, and an attempt that fails after a call that was served
is never released, whatever the failing call said of itself: the vendor bills for what came before.
"""

import array
import base64
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from pydantic import ValidationError

from fusewire.ai.failures import Consequence, FailureKind, ProviderFailure, Settle
from fusewire.ai.providers.json_values import token_count
from fusewire.ai.schema import SEND_TEXT_INSTEAD, Embedding, EmbeddingRequest, EmbeddingResponse, Usage, holds_token_ids


@dataclass(frozen=True, slots=True)
class Vectors:
    """One call's answer."""

    vectors: Sequence[object]
    tokens: object
    """Of the input, as the vendor says it: what is no count is as good as nothing."""


class PartlyServedFailure(ProviderFailure):
    """A later call failed: what came before it was served, so the attempt costs something."""

    @property
    def consequence(self) -> Consequence:
        return replace(super().consequence, settle=Settle.BOUND)


def texts(provider: str, request: EmbeddingRequest) -> list[str]:
    """The inputs as texts.

    :raises ProviderFailure: for token ids, which only OpenAI's own models understand
    """
    refuse_token_ids(provider, request)
    inputs = [request.input] if isinstance(request.input, str) else request.input
    return [text for text in inputs if isinstance(text, str)]


def refuse_token_ids(provider: str, request: EmbeddingRequest) -> None:
    """:raises ProviderFailure: for token ids: another model's ids are other words, and their vectors are wrong"""
    if holds_token_ids(request.input):
        raise refused("input", f"{provider} takes texts, not token ids. {SEND_TEXT_INSTEAD}")


def refused(param: str, message: str) -> ProviderFailure:
    """The caller's mistake, found before anything was sent."""
    return ProviderFailure(FailureKind.REJECTED_REQUEST, message, caller_message=f"{message.rstrip('.')}.", param=param)


def embed_in_batches(
    provider: str,
    request: EmbeddingRequest,
    model: str,
    size: int,
    ask: Callable[[Sequence[str]], Vectors],
    *,
    max_bytes: int = sys.maxsize,
) -> EmbeddingResponse:
    """Ask for `size` texts at a time and no more than `max_bytes` of them together, one call after the other.

    :raises ProviderFailure: when one of the calls fails
    """
    found: list[Embedding] = []
    usage: Usage | None = Usage(prompt_tokens=0)
    inputs = texts(provider, request)
    for batch in _batches(inputs, size, max_bytes):
        try:
            answer = _checked(provider, ask(batch), len(batch))
        except ProviderFailure as failure:
            raise _after(failure, len(found), len(inputs)) from failure
        found += [item.model_copy(update={"index": len(found) + item.index}) for item in answer.data]
        usage = _sum(usage, answer.usage)
    if request.encoding_format == "base64":
        found = [encoded(item) for item in found]
    return EmbeddingResponse(data=found, model=model, usage=usage)


def _batches(inputs: Sequence[str], size: int, max_bytes: int) -> Iterator[Sequence[str]]:
    batch: list[str] = []
    weight = 0
    for text in inputs:
        bytes_ = len(text.encode(errors="replace"))
        if batch and (len(batch) == size or weight + bytes_ > max_bytes):
            yield batch
            batch, weight = [], 0
        batch.append(text)
        weight += bytes_
    yield batch


def _checked(provider: str, answer: Vectors, count: int) -> EmbeddingResponse:
    try:
        data = [{"index": index, "embedding": vector} for index, vector in enumerate(answer.vectors)]
        tokens = token_count(answer.tokens)
        usage = None if tokens is None else {"prompt_tokens": tokens, "total_tokens": tokens}
        checked = EmbeddingResponse.model_validate({"data": data, "model": "", "usage": usage})
    except (ValidationError, TypeError):
        raise ProviderFailure(FailureKind.MALFORMED_ANSWER, f"{provider} sent vectors that can't be read") from None
    if len(checked.data) != count or any(isinstance(item.embedding, str) for item in checked.data):
        raise ProviderFailure(FailureKind.MALFORMED_ANSWER, f"{provider} didn't answer each input with one vector")
    return checked


def _after(failure: ProviderFailure, served: int, count: int) -> ProviderFailure:
    if not served:
        return failure
    return PartlyServedFailure(
        failure.kind,
        f"{failure.message}, after {served} of {count} inputs",
        retry_after=failure.retry_after,
        caller_message=failure.caller_message,
        param=failure.param,
    )


def _sum(so_far: Usage | None, more: Usage | None) -> Usage | None:
    """Half a usage prices half a bill: where one call didn't say, the whole attempt is settled at its bound."""
    if so_far is None or more is None:
        return None
    tokens = so_far.prompt_tokens + more.prompt_tokens
    return Usage(prompt_tokens=tokens, total_tokens=tokens)


def encoded(item: Embedding) -> Embedding:
    """The vector as base64 of little-endian 32-bit floats, as OpenAI sends it; `item` holds numbers."""
    floats = array.array("f", item.embedding)
    if sys.byteorder == "big":
        floats.byteswap()
    return item.model_copy(update={"embedding": base64.b64encode(floats.tobytes()).decode()})
